import time

import pytest

from bridge.emulator.server import Emulator
from sdks.clock import Clock
from sdks.drivers import Driver

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIRST_CHECK_SECONDS = 10


@pytest.fixture
def producer(driver: Driver, clocked_emulator: Emulator) -> Driver:
    return driver.using(endpoint=clocked_emulator.url)


async def test_point_36_a_half_message_waits_for_its_commit(producer: Driver, group: str) -> None:
    consumer = producer.using(group=f"{group}_consumer")
    published = await producer.call("publish", body="half", transCheckImmunityTime=FIRST_CHECK_SECONDS)
    assert await consumer.poll() == []
    assert await producer.settle("commit", handle=published["receiptHandle"]) == {}
    [message] = await consumer.poll()
    assert (message["messageId"], message["body"]) == (published["messageId"], "half")


async def test_point_36_a_rolled_back_message_never_appears(producer: Driver, group: str, clock: Clock) -> None:
    consumer = producer.using(group=f"{group}_consumer")
    published = await producer.call("publish", body="half", transCheckImmunityTime=FIRST_CHECK_SECONDS)
    assert await producer.settle("rollback", handle=published["receiptHandle"]) == {}
    assert await consumer.poll() == []
    clock.advance(FIRST_CHECK_SECONDS + 1)
    assert await producer.poll("consumeHalf") == []
    assert await consumer.poll() == []


async def test_point_36_an_unresolved_message_is_asked_about_until_it_is_resolved(
    producer: Driver, group: str, clock: Clock
) -> None:
    published = await producer.call("publish", body="half", transCheckImmunityTime=FIRST_CHECK_SECONDS)
    assert await producer.poll("consumeHalf") == []

    clock.advance(FIRST_CHECK_SECONDS + 1)
    late = published["receiptHandle"]
    assert await producer.settle("commit", handle=late) == {late: "MessageNotExist"}
    [first] = await producer.poll("consumeHalf")
    assert (first["messageId"], int(first["consumedTimes"])) == (published["messageId"], 1)
    assert await producer.poll("consumeHalf") == []

    clock.advance(11)
    [second] = await producer.poll("consumeHalf")
    assert (second["messageId"], int(second["consumedTimes"])) == (published["messageId"], 2)
    assert second["receiptHandle"] != first["receiptHandle"]

    superseded = first["receiptHandle"]
    assert await producer.settle("commit", handle=superseded) == {superseded: "MessageNotExist"}
    assert await producer.settle("commit", handle=second["receiptHandle"]) == {}
    [message] = await producer.using(group=f"{group}_consumer").poll()
    assert message["messageId"] == published["messageId"]


async def test_point_36_a_failed_commit_is_told_as_a_failed_ack_is(producer: Driver) -> None:
    assert await producer.settle("commit", handle="adfadfadf") == {"adfadfadf": "ReceiptHandleError"}
    assert await producer.settle("rollback", handle="adfadfadf") == {"adfadfadf": "ReceiptHandleError"}


async def test_point_37_a_timed_message_comes_at_its_time(driver: Driver) -> None:
    due = int(time.time() * 1000) + 2000
    published = await driver.call("publish", body="not before its time", startDeliverTime=due)
    assert await driver.poll() == []
    [message] = await driver.poll(wait=10)
    arrived = time.time() * 1000
    assert message["messageId"] == published["messageId"]
    assert 0 <= arrived - due < 1000
