"""How many requests are out at once, what the deadline stops, and what it doesn't."""

import asyncio

import pytest
from aiohttp import web

from bridge.sinks import CONFIRMED, Again, Refused, Unknown
from bridge.sinks.webhook import CLOSE_SECONDS
from bridge.testing import make_event
from outside.waiting import until
from webhook.receiver import Answer, Received, Receiver, opened, receiving, send


class Held:
    """Answers when it is let go."""

    def __init__(self, status: int = 204) -> None:
        self.status = status
        self.go = asyncio.Event()

    async def answer(self, _: Received) -> web.Response:
        await self.go.wait()
        return web.Response(status=self.status)


def holding(receiver: Receiver, status: int = 204) -> Held:
    held = Held(status)
    receiver.answer = held.answer
    return held


@pytest.mark.parametrize("bound", [1, 3])
async def test_a_slow_receiver_holds_no_more_than_so_many_connections_over_all_sends(receiver: Receiver, bound: int) -> None:
    held = holding(receiver)
    async with opened(receiver.url, max_connections=str(bound)) as sink:
        sends = [asyncio.create_task(send(sink, *(make_event() for _ in range(4)))) for _ in range(4)]
        await until(lambda: receiver.at_once == bound)
        assert len(receiver.requests) == bound
        held.go.set()
        assert await asyncio.gather(*sends) == [[CONFIRMED] * 4] * 4
    assert receiver.most_at_once == bound
    assert len(receiver.connections) == bound  # they are kept


async def test_one_send_right_after_the_other_waits_for_nobody(receiver: Receiver) -> None:
    async with opened(receiver.url, max_connections=1) as sink, asyncio.timeout(5):
        for _ in range(20):
            assert await send(sink, make_event(), make_event()) == [CONFIRMED] * 2


async def test_a_slow_receiver_holds_up_no_other(receiver: Receiver) -> None:
    held = holding(receiver)
    async with receiving() as quick, opened(receiver.url, max_connections=2) as slow_sink, opened(quick.url) as quick_sink:
        slow = [asyncio.create_task(send(slow_sink, make_event())) for _ in range(8)]
        await until(lambda: receiver.at_once == 2)
        async with asyncio.timeout(5):  # while eight are held
            assert await send(quick_sink, *(make_event() for _ in range(8))) == [CONFIRMED] * 8
        held.go.set()
        assert await asyncio.gather(*slow) == [[CONFIRMED]] * 8


@pytest.mark.parametrize("within", [0.0, -1.0])
async def test_nothing_is_begun_once_the_deadline_has_come(receiver: Receiver, within: float) -> None:
    async with opened(receiver.url) as sink:
        outcomes = await send(sink, make_event(), make_event(), within=within)
        assert await send(sink, make_event()) == [CONFIRMED]
    assert outcomes == [Again("not begun in time")] * 2
    assert len(receiver.requests) == 1


async def test_at_the_deadline_what_is_out_is_unknown_and_what_waits_is_given_back(receiver: Receiver) -> None:
    held = holding(receiver)
    first, second = make_event("first"), make_event("second")
    async with opened(receiver.url, max_connections=1) as sink:
        unknown, again = await send(sink, first, second, within=1.0)
        assert isinstance(unknown, Unknown)
        assert not unknown.answer.done()
        assert again == Again("not begun in time")
        held.go.set()
        assert await unknown.answer == CONFIRMED
    assert receiver.ids == [first.id]


@pytest.mark.parametrize(("status", "settled"), [(204, type(CONFIRMED)), (422, Refused), (503, Again), (401, Again)])
async def test_a_late_answer_is_told_as_what_it_is(receiver: Receiver, status: int, settled: type) -> None:
    held = holding(receiver, status)
    async with opened(receiver.url) as sink:
        (unknown,) = await send(sink, make_event(), within=1.0)
        assert isinstance(unknown, Unknown)
        held.go.set()
        assert isinstance(await unknown.answer, settled)


async def test_an_unknown_answer_is_bounded_by_the_timeout(receiver: Receiver) -> None:
    holding(receiver)
    async with opened(receiver.url, timeout_seconds=2) as sink:
        (unknown,) = await send(sink, make_event(), within=1.0)
        assert isinstance(unknown, Unknown)
        async with asyncio.timeout(5):
            assert await unknown.answer == Again("no whole answer within 2 s")


async def test_a_batch_that_is_refused_after_the_deadline_is_not_split(receiver: Receiver) -> None:
    held = holding(receiver, 422)
    async with opened(receiver.url, mode="batch") as sink:
        outcomes = await send(sink, make_event(), make_event(), within=1.0)
        held.go.set()
        for outcome in outcomes:
            assert isinstance(outcome, Unknown)
            assert isinstance(await outcome.answer, Again)
    assert len(receiver.requests) == 1


async def test_trouble_beside_an_unknown_is_again_as_the_unknown_may_get_through(receiver: Receiver) -> None:
    held = Held()

    async def answer(received: Received) -> web.Response:
        return web.Response(status=401) if b"bad" in received.body else await held.answer(received)

    receiver.answer = answer
    async with opened(receiver.url) as sink:
        unknown, again = await send(sink, make_event("good"), make_event("bad"), within=1.0)
        assert isinstance(unknown, Unknown)
        assert isinstance(again, Again)
        held.go.set()
        assert await unknown.answer == CONFIRMED


async def test_once_the_endpoint_has_trouble_the_rest_of_a_call_is_not_begun(receiver: Receiver) -> None:
    receiver.answer = lambda _: web.Response(status=404)
    async with opened(receiver.url, max_connections=1) as sink:
        outcomes = await asyncio.gather(send(sink, *(make_event() for _ in range(16))), return_exceptions=True)
    assert "404" in str(outcomes[0])
    assert len(receiver.requests) == 1


async def test_closing_waits_for_what_is_out_and_no_longer_than_two_seconds(receiver: Receiver) -> None:
    held = holding(receiver)
    loop = asyncio.get_running_loop()
    async with opened(receiver.url) as sink:
        (first,) = await send(sink, make_event(), within=1.0)
        closing = asyncio.create_task(sink.close())
        held.go.set()
        await closing
        assert isinstance(first, Unknown)
        assert first.answer.result() == CONFIRMED
    holding(receiver)
    async with opened(receiver.url) as sink:
        (second,) = await send(sink, make_event(), within=1.0)
        start = loop.time()
        await sink.close()
        assert loop.time() - start < CLOSE_SECONDS + 1
        assert isinstance(second, Unknown)
        assert isinstance(second.answer.result(), Again)


async def test_a_send_that_is_out_when_it_is_closed_is_answered(receiver: Receiver) -> None:
    holding(receiver)
    async with opened(receiver.url, max_connections=1) as sink:
        sending = asyncio.create_task(send(sink, make_event(), make_event()))
        await until(lambda: receiver.at_once == 1)
        await sink.close()
        async with asyncio.timeout(5):
            assert await sending == [Again("the sink was closed")] * 2
        assert len(receiver.requests) == 1


async def test_a_connection_that_the_receiver_closes_when_idle_costs_no_event(receiver: Receiver) -> None:
    async def close(_: Received) -> web.Response:
        return web.Response(status=204, headers={"Connection": "close"})

    answer: Answer = close
    receiver.answer = answer
    async with opened(receiver.url) as sink:
        for _ in range(3):
            assert await send(sink, make_event()) == [CONFIRMED]
    assert len(receiver.connections) == 3
