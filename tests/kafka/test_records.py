"""What is written: each event once, under its key, where Java would put it, in a form that others can read."""

import asyncio
import json

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Producer

from bridge.event import ENVELOPES
from bridge.sinks import Confirmed, Refused
from bridge.testing import make_event
from kafka.broker import Broker
from kafka.reading import Read, read
from kafka.sinks import open_sink, sink_for

SHARDING_KEY = "__SHARDINGKEY"


async def test_the_events_of_many_senders_arrive_once_each(kafka: Broker, topic: str) -> None:
    events = [make_event(f"message {number}", properties={"KEYS": f"key-{number % 997}"}) for number in range(5_000)]
    async with open_sink(kafka, topic) as caller:
        polls = iter([events[start : start + 16] for start in range(0, len(events), 16)])

        async def poller() -> None:
            for poll in polls:
                assert all(isinstance(outcome, Confirmed) for outcome in await caller.send(*poll))

        await asyncio.gather(*(poller() for _ in range(8)))
        found = read(kafka, topic)
    assert sorted(record.event_id for record in found) == sorted(event.id for event in events)
    assert {record.key for record in found} == {f"key-{number}".encode() for number in range(997)}


async def test_what_several_pollers_send_at_once_travels_together(kafka: Broker, topic: str) -> None:
    """One in flight a partition: were each send a batch of its own, the eight would take eight round trips of two seconds."""
    async with open_sink(kafka, topic, linger_ms=2_000) as caller:
        loop = asyncio.get_running_loop()
        await caller.send(make_event(properties={"KEYS": "one"}))
        began = loop.time()
        await asyncio.gather(*(caller.send(make_event(properties={"KEYS": "one"})) for _ in range(8)))
        assert loop.time() - began < 2 * 2 + 2


async def test_the_linger_ends_before_the_deadline(kafka: Broker, topic: str) -> None:
    async with open_sink(kafka, topic, linger_ms=5_000) as caller:
        (outcome,) = await caller.send(make_event(), within=4.5)
        assert isinstance(outcome, Confirmed)


KEYS = ["", "a", "ab", "abc", "abcd", "order-4711", "größe 中 😀", *(f"key-{number}" for number in range(200))]


async def test_keys_land_in_the_partitions_that_javas_partitioner_chooses(kafka: Broker, topic: str) -> None:
    async with open_sink(kafka, topic, key="property:k") as caller:
        await caller.send(*(make_event(properties={"k": key}) for key in KEYS if key))
    ours = {record.key: record.partition for record in read(kafka, topic)}
    producer = Producer({"bootstrap.servers": kafka.address(), "partitioner": "murmur2_random"})
    for key in KEYS:
        producer.produce(topic, key=key.encode(), value=b"from librdkafka", headers={"ce_id": b""})
    assert producer.flush(30) == 0
    theirs = {record.key: record.partition for record in read(kafka, topic) if not record.event_id}
    assert len(ours) == len(KEYS) - 1
    assert len(set(ours.values())) == 6
    assert all(theirs[key] == partition for key, partition in ours.items())


async def test_records_without_a_key_are_spread_over_the_partitions(kafka: Broker, topic: str) -> None:
    async with open_sink(kafka, topic) as caller:
        for _ in range(120):
            await caller.send(make_event(), make_event())
    found = read(kafka, topic)
    assert all(record.key is None for record in found)
    assert {record.partition for record in found} == set(range(6))


PROPERTIES = {"KEYS": "message-key", SHARDING_KEY: "shard-key", "customer": "42"}


@pytest.mark.parametrize(
    ("setting", "properties", "key"),
    [
        ("auto", PROPERTIES, b"shard-key"),
        ("auto", {"KEYS": "message-key"}, b"message-key"),
        ("auto", {}, None),
        ("sharding", PROPERTIES, b"shard-key"),
        ("sharding", {"KEYS": "message-key"}, None),
        ("id", PROPERTIES, b"THE-ID"),
        ("none", PROPERTIES, None),
        ("property:customer", PROPERTIES, b"42"),
        ("property:customer", {"KEYS": "message-key"}, None),
        ("auto", {"KEYS": "half \ud83c"}, b"half \xed\xa0\xbc"),
    ],
)
async def test_the_key_is_what_the_settings_say(
    kafka: Broker, topic: str, setting: str, properties: dict[str, str], key: bytes | None
) -> None:
    async with open_sink(kafka, topic, key=setting) as caller:
        await caller.send(make_event(message_id="THE-ID", properties=properties))
    assert [record.key for record in read(kafka, topic)] == [key]


async def test_in_order_the_key_is_the_sharding_key_and_what_has_none_stays_together(kafka: Broker, topic: str) -> None:
    sink = sink_for(kafka, topic)
    sink.keep_order()
    await sink.open()
    deadline = asyncio.get_running_loop().time() + 30
    for _ in range(20):
        await sink.send([make_event(properties={"KEYS": "k"}), make_event(shard="s", properties={"KEYS": "k"})], deadline)
    await sink.close()
    found = read(kafka, topic)
    assert {record.key for record in found} == {b"", b"s"}
    assert len({record.partition for record in found if record.key == b""}) == 1


BODIES = ["", "plain text", '{"price": 1.10, "n": 1234567890123456789012345}', "[1, 2]", "a\r\nb 中 😀"]


def parsed_json(text: str | bytes | None) -> object:
    return json.loads(text) if isinstance(text, str | bytes) else text


async def test_structured_records_are_cloudevents_to_the_official_sdk(kafka: Broker, topic: str) -> None:
    events = {event.id: event for event in (make_event(body, tag="T", properties={"KEYS": "k"}) for body in BODIES)}
    async with open_sink(kafka, topic) as caller:
        await caller.send(*events.values())
    found = read(kafka, topic)
    assert len(found) == len(BODIES)
    for record in found:
        event = events[record.event_id]
        assert record.value == event.structured()
        assert record.headers == {"content-type": b"application/cloudevents+json", "ce_id": event.id.encode()}
        foreign = from_structured_event(as_message(record), JSONFormat())
        assert (foreign.get_id(), foreign.get_subject(), foreign.get_extension("mqtag")) == (event.id, "k", "T")
        expected = json.loads(str(event.body)) if str(event.body)[:1] in ("{", "[") else event.body
        assert foreign.get_data() == expected


async def test_binary_records_are_cloudevents_to_the_official_sdk(kafka: Broker, topic: str) -> None:
    events = {event.id: event for event in (make_event(body, tag="größe", properties={"KEYS": "k"}) for body in BODIES)}
    async with open_sink(kafka, topic, mode="binary") as caller:
        await caller.send(*events.values())
    found = read(kafka, topic)
    assert len(found) == len(BODIES)
    for record in found:
        event = events[record.event_id]
        assert record.value == event.data
        foreign = from_binary_event(as_message(record), JSONFormat())
        assert foreign.get_id() == event.id
        assert foreign.get_source() == event.attributes["source"]
        assert foreign.get_datacontenttype() == event.attributes["datacontenttype"]
        assert (foreign.get_subject(), foreign.get_extension("mqtag")) == ("k", "größe")


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_an_empty_body_is_no_tombstone(kafka: Broker, topic: str, mode: str) -> None:
    async with open_sink(kafka, topic, mode=mode) as caller:
        await caller.send(make_event("", properties={"KEYS": "k"}), make_event("", envelope=ENVELOPES["body"]))
    assert all(record.value is not None for record in read(kafka, topic))
    assert b"" in [record.value for record in read(kafka, topic)]


async def test_other_envelopes_have_their_media_type_and_the_id(kafka: Broker, topic: str) -> None:
    events = {name: make_event("[1]", envelope=envelope) for name, envelope in ENVELOPES.items()}
    async with open_sink(kafka, topic) as caller:
        await caller.send(*events.values())
    types = {record.event_id: record.headers["content-type"].decode() for record in read(kafka, topic)}
    assert types == {event.id: event.media_type for event in events.values()}


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_each_compression_can_be_read_by_others(kafka: Broker, topic: str, compression: str) -> None:
    events = [make_event("to be or not to be " * 50) for _ in range(200)]
    async with open_sink(kafka, topic, compression=compression) as caller:
        await caller.send(*events)
    found = {record.event_id: record.value for record in read(kafka, topic)}
    assert found == {event.id: event.structured() for event in events}
    size = sum(len(event.structured()) for event in events)
    assert (kafka.bytes_of(topic) < size / 2) == (compression != "none")


async def test_a_template_makes_the_topic_of_each_message(kafka: Broker) -> None:
    for name in ("t-orders-red-7", "t-orders-blue-7"):
        kafka.create_topic(name)
    async with open_sink(kafka, "t-{topic}-{tag}-{property:shop}") as caller:
        outcomes = await caller.send(
            make_event("red", tag="red", properties={"shop": "7"}),
            make_event("blue", tag="blue", properties={"shop": "7"}),
            make_event("no tag", properties={"shop": "7"}),
            make_event("no shop", tag="red"),
            make_event("no name", tag="r|d", properties={"shop": "7"}),
        )
    assert [type(outcome) for outcome in outcomes] == [Confirmed, Confirmed, Refused, Refused, Refused]
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Refused)]
    assert "has no tag" in reasons[0]
    assert "has no property:shop" in reasons[1]
    assert "'t-orders-r|d-7'" in reasons[2]
    (record,) = read(kafka, "t-orders-red-7")
    assert json.loads(record.value or b"")["data"] == "red"


def as_message(record: Read) -> KafkaMessage:
    return KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value or b"")
