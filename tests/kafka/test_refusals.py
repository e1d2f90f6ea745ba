"""What can't be taken is told apart: the event's fault, the topic's, Kafka's."""

import asyncio
import time
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports them without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from bridge.errors import SinkDownError
from bridge.sinks import Again, Confirmed, Refused
from bridge.testing import make_event
from kafka.broker import USER, Broker
from kafka.reading import read
from kafka.sinks import open_sink, scram, sink_for

QUICKLY_SECONDS = 8.0


def forbid(kafka: Broker, topic: str, operation: AclOperation) -> None:
    """Deny it to the user of the SCRAM listener."""
    rule = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{USER}",
        "*",
        operation,
        AclPermissionType.DENY,
    )
    everybody = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*", AclOperation.ALL, AclPermissionType.ALLOW
    )
    for made in kafka.admin.create_acls([rule, everybody]).values():
        made.result(30)
    anybody: Any = None  # of any principal and host, as their types don't say
    of_the_topic = AclBindingFilter(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, anybody, anybody, AclOperation.ANY, AclPermissionType.ANY
    )
    until = time.monotonic() + 10
    while {rule, everybody} - set(kafka.admin.describe_acls(of_the_topic).result(30)):
        assert time.monotonic() < until, "the broker doesn't take the rules"
        time.sleep(0.02)


def limit(kafka: Broker, topic: str, size: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    kafka.admin.incremental_alter_configs([resource])[resource].result(30)
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    until = time.monotonic() + 10
    while kafka.admin.describe_configs([asked])[asked].result(30)["max.message.bytes"].value != str(size):
        assert time.monotonic() < until, "the broker doesn't take the limit"
        time.sleep(0.02)


async def test_a_record_that_is_too_large_is_refused_and_its_neighbours_arrive(kafka: Broker, topic: str) -> None:
    """In the middle of a busy partition, while others send."""
    same = {"KEYS": "one"}
    async with open_sink(kafka, topic) as caller:
        sends = [[make_event(f"{number}.{place}", properties=same) for place in range(8)] for number in range(20)]
        large = make_event("x" * 2_000_000, properties=same)
        sends[10].insert(4, large)
        outcomes = await asyncio.gather(*(caller.send(*events) for events in sends))
    refused = outcomes[10][4]
    assert isinstance(refused, Refused)
    assert "max.message.bytes" in refused.reason
    good = [event.id for events in sends for event in events if event is not large]
    assert sum(isinstance(outcome, Confirmed) for answers in outcomes for outcome in answers) == len(good)
    assert [record.event_id for record in read(kafka, topic)] == good


@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_the_limit_is_the_brokers_to_the_byte(kafka: Broker, compression: str) -> None:
    """Kafka judges a batch as it is sent, compressed: what shrinks enough is taken."""
    topic = f"limited-{compression}"
    kafka.create_topic(topic, max_message_bytes="20000")
    sizes = range(19_500, 20_000) if compression == "none" else [400_000]
    async with open_sink(kafka, topic, compression=compression) as caller:
        outcomes = await caller.send(*(make_event("x" * size, message_id=f"{size:06}") for size in sizes))
    taken = {size for size, outcome in zip(sizes, outcomes, strict=True) if isinstance(outcome, Confirmed)}
    assert {int(record.event_id) for record in read(kafka, topic)} == taken
    assert all(isinstance(outcome, Confirmed | Refused) for outcome in outcomes)
    assert taken == (set(range(19_500, max(taken) + 1)) if compression == "none" else {400_000})


async def test_a_limit_that_was_raised_counts(kafka: Broker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.sinks.kafka.topics.LIMIT_SECONDS", 0.0)
    limit(kafka, topic, 10_000)
    async with open_sink(kafka, topic) as caller:
        (before,) = await caller.send(make_event("x" * 50_000))
        limit(kafka, topic, 100_000)
        (after,) = await caller.send(make_event("x" * 50_000))
    assert (type(before), type(after)) == (Refused, Confirmed)


async def test_a_limit_that_was_lowered_hurts_only_what_is_too_large(kafka: Broker, topic: str) -> None:
    """The sink doesn't know yet: the broker refuses the batch, and halves of it find out who is to blame."""
    same = {"KEYS": "one"}
    async with open_sink(kafka, topic) as caller:
        await caller.send(make_event("first", properties=same))
        limit(kafka, topic, 20_000)
        events = [make_event("x" * (30_000 if number == 21 else 300), properties=same) for number in range(50)]
        outcomes = list(await caller.send(*events))
        (later,) = await caller.send(make_event("later", properties=same))
    assert isinstance(outcomes.pop(21), Refused)
    assert all(isinstance(outcome, Confirmed) for outcome in [*outcomes, later])
    del events[21]
    assert [record.event_id for record in read(kafka, topic)][1:-1] == [event.id for event in events]


async def test_an_invalid_record_is_refused_alone(kafka: Broker) -> None:
    """A compacted topic wants keys."""
    kafka.create_topic("compacted", cleanup_policy="compact")
    async with open_sink(kafka, "compacted") as caller:
        events = [make_event(str(n), properties={} if n in (3, 17) else {"KEYS": f"k{n}"}) for n in range(30)]
        outcomes = await caller.send(*events)
        (later,) = await caller.send(make_event("later", properties={"KEYS": "later"}))
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Refused)] == [3, 17]
    assert isinstance(outcomes[3], Refused)
    assert "won't take it" in outcomes[3].reason
    good = [event.id for n, event in enumerate(events) if n not in (3, 17)]
    assert [record.event_id for record in read(kafka, "compacted")][:-1] == good
    assert isinstance(later, Confirmed)


async def test_a_topic_that_does_not_exist_is_named_at_once(kafka: Broker) -> None:
    began = time.monotonic()
    with pytest.raises(SinkDownError, match=r"no Kafka topic 'missing'.*TOPIC"):
        await sink_for(kafka, "missing").open()
    assert time.monotonic() - began < QUICKLY_SECONDS


async def test_the_sink_opens_when_its_topic_has_been_created(kafka: Broker) -> None:
    sink = sink_for(kafka, "created-later")
    with pytest.raises(SinkDownError):
        await sink.open()
    kafka.create_topic("created-later")
    await sink.open()
    await sink.probe()
    await sink.close()


async def test_a_topic_that_was_deleted_is_trouble_of_the_sink(kafka: Broker, topic: str) -> None:
    async with open_sink(kafka, topic) as caller:
        await caller.send(make_event())
        kafka.admin.delete_topics([topic])[topic].result(30)
        assert not await caller.probe()


async def test_a_template_s_missing_topic_concerns_its_event_alone(kafka: Broker) -> None:
    kafka.create_topic("of-red")
    async with open_sink(kafka, "of-{tag}") as caller:
        began = time.monotonic()
        outcomes = await caller.send(make_event(tag="red"), make_event(tag="green"), make_event(tag="red"))
        assert time.monotonic() - began < QUICKLY_SECONDS
        assert [type(outcome) for outcome in outcomes] == [Confirmed, Again, Confirmed]
        assert isinstance(outcomes[1], Again)
        assert "'of-green'" in outcomes[1].reason
        (alone,) = await caller.send(make_event(tag="green"))
        assert isinstance(alone, Again)
    assert len(read(kafka, "of-red")) == 2


@pytest.mark.parametrize("operation", [AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.ALL])
async def test_a_forbidden_topic_is_trouble_of_the_sink(kafka: Broker, topic: str, operation: AclOperation) -> None:
    forbid(kafka, topic, operation)
    sink = sink_for(kafka, topic, **scram(kafka))
    began = time.monotonic()
    with pytest.raises(SinkDownError, match=f"not allowed to write to the Kafka topic '{topic}'|no Kafka topic '{topic}'"):
        await sink.open()
        await sink.send([make_event()], asyncio.get_running_loop().time() + 20)
    assert time.monotonic() - began < QUICKLY_SECONDS
    await sink.close()


async def test_a_template_s_forbidden_topic_concerns_its_event_alone(kafka: Broker) -> None:
    for name in ("free-or-not-free", "free-or-not-forbidden"):
        kafka.create_topic(name)
    forbid(kafka, "free-or-not-forbidden", AclOperation.WRITE)
    async with open_sink(kafka, "free-or-not-{tag}", **scram(kafka)) as caller:
        for _ in range(3):
            outcomes = await caller.send(make_event(tag="free"), make_event(tag="forbidden"), make_event(tag="free"))
            assert [type(outcome) for outcome in outcomes] == [Confirmed, Again, Confirmed]
            assert isinstance(outcomes[1], Again)
            assert "not allowed" in outcomes[1].reason


async def test_what_may_not_be_asked_about_limits_is_left_to_the_broker(kafka: Broker, topic: str) -> None:
    forbid(kafka, topic, AclOperation.DESCRIBE_CONFIGS)
    same = {"KEYS": "one"}
    async with open_sink(kafka, topic, **scram(kafka)) as caller:
        outcomes = await caller.send(
            make_event("before", properties=same), make_event("x" * 2_000_000, properties=same), make_event(properties=same)
        )
        assert [type(outcome) for outcome in outcomes] == [Confirmed, Refused, Confirmed]
        (later,) = await caller.send(make_event("later", properties=same))
        assert isinstance(later, Confirmed)
    assert len(read(kafka, topic)) == 3
