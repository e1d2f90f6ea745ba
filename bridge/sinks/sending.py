"""One call of `Sink.send`, seen from inside a sink that hands events over beside one another.

It keeps what the contract says of such a call: an answer for each event by the deadline, nothing handed over after it, what is
out by then followed to its end, and trouble of the sink raised as long as nothing may have got through.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.sinks import Again, Confirmed, Outcome, Refused, Unknown

Settled = Confirmed | Refused | Again
"""An outcome that is known."""


class Sending:
    """One call of `send`, with an instant of the event loop's clock as its deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.trouble: Exception | None = None
        """What is wrong with the sink itself, since the first event that met it."""
        self.pending: list[Pending] = []
        """The events to wait for, in the order in which they began."""
        self._answers = 0
        self._waiting: asyncio.Future[None] | None = None

    def answered(self) -> None:
        """One event less to wait for."""
        self._answers += 1
        if self._waiting and self._answers == len(self.pending):
            self._end_waiting()

    def _end_waiting(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    async def outcomes(self, until: float, not_begun: Again) -> Sequence[Outcome]:
        """What became of each event, in the order in which they began, told by `until`, on the event loop's clock.

        What is on its way by then is Unknown. What is not will not be, and `not_begun` is its answer. Raises `trouble`, unless
        something got through, or still may.
        """
        if self._answers < len(self.pending):
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            time_is_up = loop.call_at(until, self._end_waiting)  # an Event and a timeout cost 4 us more a call
            try:
                await self._waiting
            finally:
                time_is_up.cancel()
        outcomes = [pending.outcome(not_begun) for pending in self.pending]
        self.pending.clear()  # they refer to this sending: only the garbage collector would free such a circle
        if self.trouble and not any(isinstance(outcome, Confirmed | Unknown) for outcome in outcomes):
            raise self.trouble
        return outcomes


@dataclass(slots=True, eq=False, kw_only=True)
class Pending:
    """One event, until it is known what became of it."""

    sending: Sending
    on_its_way: bool = False
    answer: Settled | None = None
    late: "asyncio.Future[Settled] | None" = None
    """Holds the answer of an event that was Unknown when its sending was over."""

    def __post_init__(self) -> None:
        self.sending.pending.append(self)

    @property
    def is_wanted(self) -> bool:
        """Whether it may be handed over: not when it has an answer, nor when its sending is over."""
        return self.answer is None and self.late is None

    def settle(self, verdict: Settled | Exception) -> None:
        """It is known what became of it, or what is wrong with the sink itself. The first verdict counts."""
        if isinstance(verdict, Exception):
            self.sending.trouble = self.sending.trouble or verdict
            verdict = Again(str(verdict))
        if self.late:
            if not self.late.done():
                self.late.set_result(verdict)
        elif self.answer is None:
            self.answer = verdict
            self.sending.answered()

    def outcome(self, not_begun: Again) -> Outcome:
        """What is known when its sending is over."""
        if self.answer is None and not self.on_its_way:
            self.answer = not_begun
        if self.answer is None:
            self.late = asyncio.get_running_loop().create_future()
            return Unknown(self.late)
        return self.answer


def settle(pending: Iterable[Pending], verdict: Settled | Exception) -> None:
    """The same became of each of them."""
    for one in pending:
        one.settle(verdict)
