"""Long polls: who is woken when, what an abandoned one takes along, and how they end."""

import asyncio
import random
import time
from collections.abc import Sequence
from email.utils import formatdate

import pytest

from bridge.emulator.broker import Broker
from bridge.emulator.changes import Changes
from bridge.emulator.faults import Faults
from bridge.emulator.polls import Place, Polls
from bridge.emulator.queues import Subscription
from bridge.emulator.server import Emulator
from emulator.raw_http import Connection, Response, connect
from server_process import free_port

INSTANCE = "MQ_INST_1"


async def waiting(emulator: Emulator, polls: int) -> None:
    """Wait until that many polls are waiting."""
    async with asyncio.timeout(10):
        await emulator.until(lambda: emulator.open_polls(INSTANCE) == polls)


async def poll(emulator: Emulator, query: str = "&waitseconds=30", *, count: int = 16) -> Response:
    async with connect(emulator.url) as connection:
        return await connection.consume(query, count=count)


async def start_polls(emulator: Emulator, queries: Sequence[str], *, count: int = 16) -> list[asyncio.Task[Response]]:
    """Polls that wait, in this order."""
    tasks = []
    for number, query in enumerate(queries, start=1):
        tasks.append(asyncio.create_task(poll(emulator, f"&waitseconds=30{query}", count=count)))
        await waiting(emulator, number)
    return tasks


async def test_the_first_in_line_is_served_first(emulator: Emulator) -> None:
    polls = await start_polls(emulator, [""] * 3)
    for number, task in enumerate(polls):
        emulator.publish("topicA", str(number), instance=INSTANCE)
        assert (await task).texts("MessageBody") == [str(number)]
        await waiting(emulator, 2 - number)


async def test_a_poll_is_passed_over_by_what_it_does_not_want(emulator: Emulator) -> None:
    for_a, for_b = await start_polls(emulator, ["&tag=A", "&tag=B"])
    emulator.publish("topicA", "b", instance=INSTANCE, tag="B")
    assert (await for_b).texts("MessageBody") == ["b"]
    assert not for_a.done()
    emulator.publish("topicA", "a", instance=INSTANCE, tag="A")
    assert (await for_a).texts("MessageBody") == ["a"]


async def test_every_group_is_woken(emulator: Emulator) -> None:
    async with connect(emulator.url) as one, connect(emulator.url) as other:
        polls = [
            asyncio.create_task(one.consume("&waitseconds=30", group="GID_a")),
            asyncio.create_task(other.consume("&waitseconds=30", group="GID_b")),
        ]
        await waiting(emulator, 2)
        emulator.publish("topicA", "a", instance=INSTANCE)
        assert [response.texts("MessageBody") for response in await asyncio.gather(*polls)] == [["a"], ["a"]]


async def test_a_publish_elsewhere_wakes_nobody(emulator: Emulator) -> None:
    [task] = await start_polls(emulator, [""])
    emulator.publish("topicB", "another topic", instance=INSTANCE)
    emulator.publish("topicA", "another instance")
    emulator.publish("topicA", "half", instance=INSTANCE, properties={"__TransCheckT": "10"})
    emulator.publish("topicA", "mine", instance=INSTANCE)
    assert (await task).texts("MessageBody") == ["mine"]


async def test_the_end_of_a_lease_wakes_a_poll() -> None:
    async with Emulator(invisible_seconds=0.3) as emulator:
        emulator.publish("topicA", "a", instance=INSTANCE)
        [waiter] = await start_polls(emulator, ["&tag=none"])
        first = await poll(emulator, "")
        assert first.texts("ConsumedTimes") == ["1"]
        second = await poll(emulator)
        assert second.texts("ConsumedTimes") == ["2"]
        late = time.time() * 1000 - int(first.texts("NextConsumeTime")[0])
        assert 0 <= late < 2000
        waiter.cancel()


async def test_an_ack_opens_a_shard_for_a_poll(emulator: Emulator, connection: Connection) -> None:
    for body in ("1", "2"):
        emulator.publish("topicA", body, instance=INSTANCE, properties={"__SHARDINGKEY": "A"})
    first = await connection.consume("&trans=order", count=1)
    [task] = await start_polls(emulator, ["&trans=order"])
    assert (await connection.ack(first.texts("ReceiptHandle"))).status == 204
    assert (await task).texts("MessageBody") == ["2"]


async def test_a_commit_wakes_a_poll(emulator: Emulator, connection: Connection) -> None:
    published = emulator.publish("topicA", "a", instance=INSTANCE, properties={"__TransCheckT": "10"})
    assert published.receipt_handle is not None
    [task] = await start_polls(emulator, [""])
    assert (await connection.ack([published.receipt_handle], "&trans=commit")).status == 204
    assert (await task).texts("MessageBody") == ["a"]


async def test_a_moved_clock_wakes_polls() -> None:
    now = 1_700_000_000.0
    async with Emulator(clock=lambda: now) as emulator:
        emulator.publish("topicA", "late", instance=INSTANCE, properties={"__STARTDELIVERTIME": "1700000600000"})
        emulator.publish("topicA", "half", instance=INSTANCE, properties={"__TransCheckT": "300"})
        polls = [
            asyncio.create_task(_poll_at(emulator, now, query)) for query in ("&waitseconds=30", "&waitseconds=30&trans=pop")
        ]
        await waiting(emulator, 2)
        now += 600
        emulator.time_moved()
        assert [response.texts("MessageBody") for response in await asyncio.gather(*polls)] == [["late"], ["half"]]


async def _poll_at(emulator: Emulator, instant: float, query: str) -> Response:
    async with connect(emulator.url) as connection:
        target = f"/topics/topicA/messages?consumer=GID_a&ns={INSTANCE}&numOfMessages=16{query}"
        return await connection.call("GET", target, date=formatdate(instant, usegmt=True))


async def test_an_abandoned_poll_takes_no_message_with_it(emulator: Emulator) -> None:
    gone, patient = await start_polls(emulator, ["", ""])
    gone.cancel()
    await waiting(emulator, 1)
    emulator.publish("topicA", "a", instance=INSTANCE)
    response = await patient
    assert (response.texts("MessageBody"), response.texts("ConsumedTimes")) == (["a"], ["1"])


async def test_a_poll_abandoned_in_the_very_moment_it_is_served_gives_its_messages_back() -> None:
    now = 1_700_000_000_000
    broker = Broker(rng=random.Random(0))
    changes = Changes()
    polls = Polls(broker, now=lambda: now, changes=changes)
    place = Place(None, "topicA", "GID_a")
    gone, patient = (asyncio.create_task(polls.take(place, Subscription(), count=16, wait=30)) for _ in range(2))
    await changes.until(lambda: polls.open(None) == 2)
    broker.publish(now, "topicA", "a")
    polls.serve(place)
    gone.cancel()  # it has been served, and hasn't run since
    [message] = await patient
    assert (message.body, message.consumed_times) == ("a", 1)
    assert gone.cancelled()
    assert polls.open(None) == 0


async def test_a_stranded_poll_takes_a_message_along_for_a_lease() -> None:
    async with Emulator(invisible_seconds=3, faults=Faults(strand_abandoned_polls=True)) as emulator:
        [gone] = await start_polls(emulator, [""])
        gone.cancel()
        await asyncio.wait([gone])
        async with connect(emulator.url) as connection:
            await connection.publish("a")  # by now the hang-up has arrived, and the poll waits on
            assert (await connection.consume()).code == "MessageNotExist"
            assert (await connection.consume("&waitseconds=30")).texts("ConsumedTimes") == ["2"]


async def test_one_poll_too_many_is_answered_at_once(emulator: Emulator) -> None:
    emulator.faults.open_poll_limit = 2
    polls = await start_polls(emulator, ["", ""])
    assert (await poll(emulator)).code == "MessageNotExist"
    emulator.publish("topicA", "a", instance=INSTANCE)
    await polls[0]
    polls.append(asyncio.create_task(poll(emulator)))
    await waiting(emulator, 2)
    for body in ("b", "c"):
        emulator.publish("topicA", body, instance=INSTANCE)
    assert [(await task).texts("MessageBody") for task in polls] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("faults", [Faults(), Faults(strand_abandoned_polls=True), Faults(stalled=1)])
async def test_closing_is_quick_with_polls_open(faults: Faults) -> None:
    emulator = Emulator(faults=faults)
    await emulator.start()
    polls = [asyncio.create_task(poll(emulator)) for _ in range(20)]
    if not faults.stalled:
        await waiting(emulator, 20)
    begin = time.perf_counter()
    await emulator.close()
    assert time.perf_counter() - begin < 2
    for outcome in await asyncio.gather(*polls, return_exceptions=True):
        assert isinstance(outcome, (ConnectionError, asyncio.IncompleteReadError))
    assert emulator.open_polls(INSTANCE) == 0


async def test_a_closed_emulator_starts_again_in_its_place_with_its_messages() -> None:
    async with Emulator(port=free_port()) as emulator:
        url = emulator.url
        emulator.publish("topicA", "a", instance=INSTANCE)
        await emulator.close()
        with pytest.raises(ConnectionError):
            await poll(emulator)
        await emulator.start()
        assert emulator.url == url
        assert (await poll(emulator)).texts("MessageBody") == ["a"]


async def test_a_port_that_is_taken_is_reported(emulator: Emulator) -> None:
    port = int(emulator.url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await Emulator(port=port).start()


async def test_a_hundred_polls_share_what_is_published(emulator: Emulator) -> None:
    polls = await start_polls(emulator, [""] * 100, count=1)
    for number in range(100):
        emulator.publish("topicA", str(number), instance=INSTANCE)
    responses = await asyncio.gather(*polls)
    assert [response.texts("MessageBody") for response in responses] == [[str(number)] for number in range(100)]
