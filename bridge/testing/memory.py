"""A sink that keeps what it is sent."""

import asyncio
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict

from bridge.errors import BridgeError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, ProbedSink


class MemorySettings(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid")


class MemorySink(ProbedSink):
    """Keeps what it is sent, and answers as it is told.

    `answer` decides what becomes of each event; by default it is confirmed. While `trouble` is set, every call raises it.
    While `hold` is cleared, `send` doesn't answer.
    """

    Settings = MemorySettings

    def __init__(self, answer: Callable[[Event], Outcome] = lambda _: CONFIRMED) -> None:
        super().__init__(MemorySettings())
        self.answer = answer
        self.trouble: BridgeError | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.sends: list[list[str]] = []
        """The ids of the events of each call, in the order of the calls."""
        self.confirmed: list[Event] = []
        """Every event that was confirmed, once for each time."""
        self.probes = 0
        self.closed = False

    async def open(self) -> None:
        """See `Sink.open`."""
        self._complain()

    async def probe(self) -> None:
        """See `ProbedSink.probe`."""
        self.probes += 1
        self._complain()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """See `Sink.send`."""
        if asyncio.get_running_loop().time() >= deadline:
            return [Again("too late to begin")] * len(events)
        self.sends.append([event.id for event in events])
        await self.hold.wait()
        self._complain()
        outcomes = [self.answer(event) for event in events]
        self.confirmed += [event for event, outcome in zip(events, outcomes, strict=True) if outcome == CONFIRMED]
        return outcomes

    async def close(self) -> None:
        """See `Sink.close`."""
        self.closed = True

    @property
    def sent(self) -> list[str]:
        """The ids of all events that were handed over, in order, once for each time."""
        return [event_id for send in self.sends for event_id in send]

    def _complain(self) -> None:
        if self.trouble is not None:
            raise self.trouble
