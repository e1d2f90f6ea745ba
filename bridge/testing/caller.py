"""Calls a sink as the bridge does, and complains of what no sink may do whatever it is asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import Again, Confirmed, Outcome, ProbedSink, Refused, Sink, Unknown

T = TypeVar("T")

Settled = Confirmed | Refused | Again
"""An outcome that is known."""

CLOSE_SECONDS = 3.0
"""How long the bridge waits for a sink to close."""
SLACK_SECONDS = 2.0
"""By how much a busy machine may be late."""
_PAUSE_SECONDS = 0.1


class Caller:
    """One sink, as the bridge sees it. `patience` is the number of seconds that anything may take that has no bound of its own.

    Every method raises AssertionError, with the sentence of the contract that was broken.
    """

    def __init__(self, sink: Sink, patience: float) -> None:
        self._sink = sink
        self._patience = patience

    async def open(self) -> None:
        """Open it, again and again until it is open."""
        await self._until_up(lambda: self._call("open", self._sink.open(), self._patience))

    async def try_to_open(self) -> bool:
        """Open it; tell whether it says that it is open."""
        try:
            await self._call("open", self._sink.open(), self._patience)
        except SinkDownError:
            return False
        return True

    async def send(self, *events: Event, within: float | None = None) -> Sequence[Outcome]:
        """What the sink tells of each event, `within` seconds, by default as long as patience lasts. Raises SinkDownError."""
        within = self._patience if within is None else within
        deadline = asyncio.get_running_loop().time() + within
        outcomes = await self._call("send", self._sink.send(events, deadline), max(0.0, within), "after its deadline")
        assert len(outcomes) == len(events), f"send answered {len(outcomes)} times for {len(events)} events"
        for outcome in outcomes:
            assert isinstance(outcome, Outcome), f"send answered with {outcome!r}, which is no outcome"
        return outcomes

    async def send_and_settle(self, *events: Event, within: float | None = None) -> Sequence[Settled]:
        """The same, when everything that was unknown has become known."""
        outcomes = await self.send(*events, within=within)
        return [await self.settle(outcome) for outcome in outcomes]

    async def settle(self, outcome: Outcome, seconds: float | None = None) -> Settled:
        """The outcome when it is known, in so many seconds."""
        if not isinstance(outcome, Unknown):
            return outcome
        seconds = self._patience if seconds is None else seconds
        await asyncio.wait([outcome.answer], timeout=seconds)
        assert outcome.answer.done(), f"the answer of an Unknown had not come {seconds:g} s after it could: the event is lost"
        assert not outcome.answer.cancelled(), "the answer of an Unknown was cancelled: what became of the event nobody knows"
        assert not outcome.answer.exception(), f"the answer of an Unknown is an exception: {outcome.answer.exception()!r}"
        settled = outcome.answer.result()
        assert isinstance(settled, Settled), f"the answer of an Unknown is {settled!r}, which is no known outcome"
        return settled

    async def deliver(self, *events: Event) -> None:
        """Send until each is confirmed, as the bridge does: what isn't confirmed is sent again, an outage is waited out."""
        pending = list(events)

        async def try_once() -> None:
            nonlocal pending
            outcomes = await self.send_and_settle(*pending, within=self._patience / 4)
            for outcome in outcomes:
                assert not isinstance(outcome, Refused), f"an event was refused that is like any other: {outcome.reason}"
            pending = [event for event, outcome in zip(pending, outcomes, strict=True) if isinstance(outcome, Again)]
            if pending:
                raise SinkDownError(f"{len(pending)} of {len(events)} events are not confirmed: {outcomes}")

        await self._until_up(try_once)

    async def probe(self) -> bool:
        """Tell whether the sink, which is a ProbedSink, says that it is up."""
        assert isinstance(self._sink, ProbedSink)
        try:
            await self._call("probe", self._sink.probe(), self._patience)
        except SinkDownError:
            return False
        return True

    async def close(self) -> None:
        """Close it, which is bounded."""
        await self._call("close", self._sink.close(), CLOSE_SECONDS)

    async def _until_up(self, attempt: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        while True:
            try:
                return await attempt()
            except SinkDownError as problem:
                if loop.time() >= end:
                    raise AssertionError(f"{self._patience:g} s were not enough for the sink to work: {problem}") from problem
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _call(self, name: str, call: Awaitable[T], seconds: float, since: str = "after it was called") -> T:
        # A task of its own, which nobody cancels: the bridge doesn't either.
        task = asyncio.ensure_future(call)
        await asyncio.wait([task], timeout=seconds + SLACK_SECONDS)
        assert task.done(), f"{name} had not returned {seconds + SLACK_SECONDS:g} s {since}"
        assert not task.cancelled(), f"{name} was cancelled, by the sink itself"
        try:
            return task.result()
        except SinkDownError:
            assert name != "close", "close raised SinkDownError: it has nobody to tell, and raises nothing"
            raise
        except Exception as problem:
            raise AssertionError(
                f"{name} raised {type(problem).__name__}, which the bridge takes for a mistake of the sink: {problem}"
            ) from problem


@asynccontextmanager
async def opened(sink: Sink, patience: float) -> AsyncIterator[Caller]:
    """The sink, open meanwhile."""
    caller = Caller(sink, patience)
    await caller.open()
    try:
        yield caller
    finally:
        await caller.close()
