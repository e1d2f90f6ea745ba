"""A refused batch is split until the event that is meant is found."""

import json
from collections.abc import Callable

import pytest
from aiohttp import web

from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED, Again, Refused
from bridge.testing import make_event
from webhook.receiver import Received, Receiver, opened, send


def refusing(*bad: str, status: int = 422) -> Callable[[Received], web.Response]:
    """Takes arrays without any of these, whole or not at all."""

    def answer(received: Received) -> web.Response:
        data = {element["data"] for element in json.loads(received.body)}
        return web.Response(status=status if data & {*bad} else 204)

    return answer


def taken(receiver: Receiver, *bad: str) -> list[str]:
    arrays = [[element["data"] for element in json.loads(request.body)] for request in receiver.requests]
    return sorted((data for array in arrays if not {*array} & {*bad} for data in array), key=int)


@pytest.mark.parametrize("status", [400, 413, 415, 422])
@pytest.mark.parametrize("place", [0, 6, 15])
async def test_a_refused_event_among_16_is_found_and_the_other_15_are_confirmed_once(
    receiver: Receiver, place: int, status: int
) -> None:
    receiver.answer = refusing(str(place), status=status)
    async with opened(receiver.url, mode="batch") as sink:
        outcomes = await send(sink, *(make_event(str(number)) for number in range(16)))
    refused = outcomes.pop(place)
    assert isinstance(refused, Refused)
    assert str(status) in refused.reason
    assert outcomes == [CONFIRMED] * 15
    assert taken(receiver, str(place)) == [str(number) for number in range(16) if number != place]
    assert len(receiver.requests) == 9  # two for each of four halvings, and the first


async def test_several_refused_events_are_all_found(receiver: Receiver) -> None:
    bad = {1, 2, 7, 12}
    receiver.answer = refusing(*map(str, bad))
    async with opened(receiver.url, mode="batch", max_connections=1) as sink:
        outcomes = await send(sink, *(make_event(str(number)) for number in range(13)))
    assert {number for number, outcome in enumerate(outcomes) if isinstance(outcome, Refused)} == bad
    assert [outcome for number, outcome in enumerate(outcomes) if number not in bad] == [CONFIRMED] * 9


async def test_a_batch_too_large_is_sent_as_smaller_ones(receiver: Receiver) -> None:
    receiver.answer = lambda received: web.Response(status=413 if len(received.body) > 3000 else 204)
    async with opened(receiver.url, mode="batch") as sink:
        assert await send(sink, *(make_event("x" * 1000) for _ in range(8))) == [CONFIRMED] * 8


async def test_a_batch_that_is_to_be_tried_again_is_not_split(receiver: Receiver) -> None:
    receiver.answer = lambda _: web.Response(status=503, headers={"Retry-After": "7"})
    async with opened(receiver.url, mode="batch") as sink:
        outcomes = await send(sink, make_event(), make_event())
    assert [outcome.after for outcome in outcomes if isinstance(outcome, Again)] == [7.0, 7.0]
    assert len(receiver.requests) == 1


async def test_trouble_while_a_batch_is_split_leaves_what_was_confirmed_confirmed(receiver: Receiver) -> None:
    first, second = make_event("1"), make_event("2")

    def answer(received: Received) -> web.Response:
        data = [element["data"] for element in json.loads(received.body)]
        return web.Response(status={("1", "2"): 400, ("1",): 204, ("2",): 401}[tuple(data)])

    receiver.answer = answer
    async with opened(receiver.url, mode="batch", max_connections=1) as sink:
        confirmed, again = await send(sink, first, second)
    assert confirmed == CONFIRMED
    assert isinstance(again, Again)


async def test_trouble_with_a_batch_is_trouble(receiver: Receiver) -> None:
    receiver.answer = lambda _: web.Response(status=401)
    async with opened(receiver.url, mode="batch") as sink:
        with pytest.raises(SinkDownError):
            await send(sink, make_event(), make_event())
    assert len(receiver.requests) == 1
