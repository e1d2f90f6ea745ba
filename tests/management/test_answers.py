"""What the emulator's management API says is the case, unless it was told to say something else (protocol.md 8.3, 8.4)."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.emulator.faults import Faults
from bridge.emulator.server import Emulator
from emulator.raw_http import Connection, connect, signed
from management.official_sdk import GROUP, INSTANCE, METHODS, TOPIC, call, client


@asynccontextmanager
async def polling(emulator: Emulator, *, user_agent: str = "", tags: str = "") -> AsyncIterator[Connection]:
    """A consumer whose long poll is open."""
    async with connect(emulator.url) as connection:
        target = f"/topics/{TOPIC}/messages?consumer={GROUP}&ns={INSTANCE}&numOfMessages=16&waitseconds=30{tags}"
        before = emulator.open_polls(INSTANCE)
        connection.writer.write(signed("GET", target, host=connection.host, headers=[f"User-Agent: {user_agent}"]))
        async with asyncio.timeout(10):
            await emulator.until(lambda: emulator.open_polls(INSTANCE) == before + 1)
        yield connection


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(Exception, match=code) as problem:
        yield
    assert getattr(problem.value, "code", None) == code


async def connections(emulator: Emulator) -> list[dict[str, Any]]:
    data = (await call(client(emulator), "OnsConsumerGetConnection"))["Data"]
    assert data["MessageModel"] == "CLUSTERING"
    listed: list[dict[str, Any]] = data["ConnectionList"]["ConnectionDo"]
    return listed


async def test_every_connection_that_polls_is_listed(emulator: Emulator) -> None:
    async with polling(emulator, user_agent="mq-go-sdk/1.0.3(fasthttp)") as one, polling(emulator) as two:
        ports = [connection.writer.get_extra_info("sockname")[1] for connection in (one, two)]
        assert await connections(emulator) == [
            {"ClientId": f"127.0.0.1@{ports[0]}", "ClientAddr": f"127.0.0.1:{ports[0]}", "Language": "GO", "Version": "1.0.3"},
            {"ClientId": f"127.0.0.1@{ports[1]}", "ClientAddr": f"127.0.0.1:{ports[1]}", "Language": "HTTP", "Version": ""},
        ]


async def test_who_has_gone_is_listed_no_more(emulator: Emulator) -> None:
    async with polling(emulator):
        assert len(await connections(emulator)) == 1
    async with asyncio.timeout(10):
        await emulator.until(lambda: emulator.open_polls(INSTANCE) == 0)
    with refused("BIZ_CONSUMER_NOT_ONLINE"):
        await connections(emulator)
    emulator.faults.management_offline_empty = True
    assert await connections(emulator) == []


async def test_the_backlog_is_what_is_not_acked(emulator: Emulator) -> None:
    async with connect(emulator.url) as connection:
        for body in "abc":
            emulator.publish(TOPIC, body, instance=INSTANCE)
        handles = (await connection.consume(count=2)).texts("ReceiptHandle")
        await connection.ack(handles[:1])
        behind = (await call(client(emulator), "OnsConsumerAccumulate"))["Data"]
        assert behind["TotalDiff"] == 2  # one leased, one ready
        assert behind["TotalDiff"] == emulator.broker.book(emulator.now(), TOPIC, GROUP, instance=INSTANCE).backlog
        await connection.ack([*handles[1:], *(await connection.consume(count=1)).texts("ReceiptHandle")])
        behind = (await call(client(emulator), "OnsConsumerAccumulate"))["Data"]
        assert (behind["TotalDiff"], behind["DelayTime"], behind["Online"]) == (0, 0, True)
        assert 0 <= emulator.now() - behind["LastTimestamp"] < 60_000


async def test_the_delay_is_the_age_of_the_oldest_that_is_not_acked(emulator: Emulator) -> None:
    async with connect(emulator.url) as connection:
        emulator.publish(TOPIC, "old", instance=INSTANCE)
        emulator.faults.clock_offset_seconds = 100
        emulator.publish("topicB", "newer", instance=INSTANCE)
        await connection.consume(topic="topicB")
        await connection.consume()
        emulator.faults.clock_offset_seconds = 160
        data = (await call(client(emulator), "OnsConsumerAccumulate", detail=True))["Data"]
        details = {one["Topic"]: one for one in data["DetailInTopicList"]["DetailInTopicDo"]}
        assert {topic: one["TotalDiff"] for topic, one in details.items()} == {TOPIC: 1, "topicB": 1}
        assert 60_000 <= details["topicB"]["DelayTime"] < 100_000
        assert 160_000 <= details[TOPIC]["DelayTime"] == data["DelayTime"] < 200_000
        emulator.faults.management_delay_seconds = 7.5
        assert (await call(client(emulator), "OnsConsumerAccumulate"))["Data"]["DelayTime"] == 7500


async def test_messages_with_tags_that_nobody_asks_for_are_no_backlog(emulator: Emulator) -> None:
    async with polling(emulator, tags="&tag=A"):
        emulator.publish(TOPIC, "b", instance=INSTANCE, tag="B")
        assert (await call(client(emulator), "OnsConsumerAccumulate"))["Data"]["TotalDiff"] == 0


async def test_the_status_says_all_of_it_and_whether_subscriptions_agree(emulator: Emulator) -> None:
    async with polling(emulator, tags="&tag=A%7C%7CB") as connection:
        port = connection.writer.get_extra_info("sockname")[1]
        data = (await call(client(emulator), "OnsConsumerStatus"))["Data"]
        assert (data["Online"], data["SubscriptionSame"], data["TotalDiff"]) == (True, True, 0)
        assert data["InstanceId"] == INSTANCE
        assert [one["ClientId"] for one in data["ConnectionSet"]["ConnectionDo"]] == [f"127.0.0.1@{port}"]
        assert not data.get("ConsumerConnectionInfoList")
        async with polling(emulator):
            data = (await call(client(emulator), "OnsConsumerStatus", detail=True))["Data"]
            assert data["SubscriptionSame"] is False
            clients = data["ConsumerConnectionInfoList"]["ConsumerConnectionInfoDo"]
            asked = [one["SubscriptionSet"]["SubscriptionData"][0] for one in clients]
            assert [(one["Topic"], one["SubString"]) for one in asked] == [(TOPIC, "A||B"), (TOPIC, "*")]


async def test_producers_who_ask_for_half_messages_are_no_consumers(emulator: Emulator) -> None:
    async with connect(emulator.url) as connection:
        await connection.consume("&trans=pop")
        with refused("BIZ_CONSUMER_NOT_ONLINE"):
            await connections(emulator)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"group_id": None}, "MissingGroupId"),
        ({"group_id": "a b"}, "BIZ_FIELD_CHECK_INVALID"),
        ({"group_id": "GID_nobody"}, "BIZ_SUBSCRIPTION_NOT_FOUND"),
        ({"instance_id": "MQ_INST_2"}, "BIZ_SUBSCRIPTION_NOT_FOUND"),
        ({"instance_id": None}, "BIZ_SUBSCRIPTION_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_refused_by_its_code(emulator: Emulator, parameters: dict[str, Any], code: str) -> None:
    async with polling(emulator):
        with refused(code):
            await call(client(emulator), "OnsConsumerAccumulate", **parameters)


@pytest.mark.parametrize("operation", METHODS)
async def test_nobody_is_listed_where_consumers_over_http_never_are(emulator: Emulator, operation: str) -> None:
    emulator.faults.management_unlisted = emulator.faults.management_offline_empty = True
    async with polling(emulator):
        data = (await call(client(emulator), operation))["Data"]
        assert not data.get("Online")
        assert not data.get("ConnectionList", {}).get("ConnectionDo")


async def test_faults_of_the_management_api_leave_the_messages_alone(emulator: Emulator) -> None:
    emulator.faults.management_error, emulator.faults.management_error_status = "ServiceUnavailable", 503
    emulator.faults.management_stalled = 1
    async with connect(emulator.url) as connection:
        assert (await connection.publish("a")).status == 201
        assert (await connection.consume()).texts("MessageBody") == ["a"]


def test_told_answers_are_json_in_the_environment() -> None:
    told: dict[str, Any] = {"OnsConsumerStatus": {"Data": {"Online": True}}}
    assert Faults.model_validate({"management_answers": json.dumps(told)}).management_answers == told
    for wrong in ("{", "[]", '{"OnsConsumerStatus": 1}'):
        with pytest.raises(ValidationError, match="management_answers"):
            Faults.model_validate({"management_answers": wrong})
