import time

import pytest

from bridge.emulator.server import Emulator
from sdks.clock import Clock
from sdks.drivers import Driver, Poll

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_point_25_an_unacked_message_comes_again_when_its_lease_ends(
    driver: Driver, short_lease_emulator: Emulator
) -> None:
    forgetful = driver.using(endpoint=short_lease_emulator.url)
    published = await forgetful.call("publish", body="again and again")
    deliveries = []
    arrivals = []
    for _ in range(3):
        [message] = await forgetful.poll(wait=5)
        arrivals.append(time.time() * 1000)
        deliveries.append(message)
    assert {message["messageId"] for message in deliveries} == {published["messageId"]}
    assert [int(message["consumedTimes"]) for message in deliveries] == [1, 2, 3]
    assert len({message["receiptHandle"] for message in deliveries}) == 3
    assert len({int(message["firstConsumeTime"]) for message in deliveries}) == 1
    for delivery, arrival in zip(deliveries[:-1], arrivals[1:], strict=True):
        assert 0 <= arrival - int(delivery["nextConsumeTime"]) < 1000


async def test_point_25_an_acked_message_never_comes_again(driver: Driver, clocked_emulator: Emulator, clock: Clock) -> None:
    consumer = driver.using(endpoint=clocked_emulator.url)
    await consumer.call("publish", body="acked")
    await consumer.call("publish", body="forgotten")
    handles = {message["body"]: message["receiptHandle"] for message in await consumer.poll()}
    assert await consumer.settle(handles=[handles["acked"]]) == {}
    clock.advance(301)
    assert [message["body"] for message in await consumer.poll()] == ["forgotten"]


@pytest.mark.parametrize(("op", "lease"), [("consume", 300_000), ("consumeOrderly", 60_000)])
async def test_point_25_the_lease_is_the_documented_one(driver: Driver, op: Poll, lease: int) -> None:
    before = int(time.time() * 1000)
    await driver.call("publish", body="leased", shardingKey="A")
    [message] = await driver.poll(op)
    after = int(time.time() * 1000)
    assert before <= int(message["publishTime"]) <= after
    assert before + lease <= int(message["nextConsumeTime"]) <= after + lease
    assert int(message["consumedTimes"]) == 1


async def test_point_23_each_group_gets_its_own_delivery(driver: Driver, group: str) -> None:
    published = await driver.call("publish", body="for two")
    [first] = await driver.poll()
    [second] = await driver.using(group=f"{group}_2").poll()
    assert first["messageId"] == second["messageId"] == published["messageId"]
    assert first["receiptHandle"] != second["receiptHandle"]
    assert await driver.poll() == []


async def test_point_27_a_shard_waits_for_all_of_its_acks_and_no_other_shard_does(driver: Driver) -> None:
    await driver.call("publish", body="A1", shardingKey="A")
    await driver.call("publish", body="A2", shardingKey="A")
    first, second = await driver.poll("consumeOrderly")
    assert [(message["body"], message["shardingKey"]) for message in (first, second)] == [("A1", "A"), ("A2", "A")]

    await driver.call("publish", body="A3", shardingKey="A")
    await driver.call("publish", body="B1", shardingKey="B")
    assert await driver.settle(handles=[first["receiptHandle"]]) == {}
    assert [message["body"] for message in await driver.poll("consumeOrderly")] == ["B1"]

    assert await driver.settle(handles=[second["receiptHandle"]]) == {}
    assert [message["body"] for message in await driver.poll("consumeOrderly")] == ["A3"]


async def test_point_27_what_of_a_shard_was_not_acked_comes_again_in_order(
    driver: Driver, clocked_emulator: Emulator, clock: Clock
) -> None:
    consumer = driver.using(endpoint=clocked_emulator.url)
    for body in ("A1", "A2", "A3"):
        await consumer.call("publish", body=body, shardingKey="A")
    assert [message["body"] for message in await consumer.poll("consumeOrderly", batch=2)] == ["A1", "A2"]
    clock.advance(61)
    again = await consumer.poll("consumeOrderly")
    assert [(message["body"], int(message["consumedTimes"])) for message in again] == [("A1", 2), ("A2", 2), ("A3", 1)]
