"""One sink as the pipeline sees it: every send is bounded, and the sink is either up or down (design.md 5, Down or poison?)."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import structlog

from bridge.errors import BridgeError, FixSettingsError, SinkDownError, SinkGoneError
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, ProbedSink, Refused, Sink, Unknown
from bridge.source import Delivery
from bridge.watch.facts import SinkComponent

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

SEVERAL = 5
"""So many different events in a row that got no confirmation, with none confirmed between them, mean that the sink is down."""


OPEN_SECONDS = 30.0
PROBE_SECONDS = 10.0
"""How long a sink may take to open, and to say whether it is up."""


class Outlet:
    """One sink, by its name in the settings, open or not yet, up or down; `changed` is called when it goes down or comes up.

    `confirmed_after_all` is told of each message, and the sink's name, that is confirmed when nobody waits for it any more, as
    the process ends.

    Down begins with a SinkDownError, or when `SEVERAL` new events in a row got no confirmation; an event that fails again
    while it is parked has been counted before. It ends with the confirmation of any event.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        component: SinkComponent,
        changed: Callable[[], None] = lambda: None,
        confirmed_after_all: Callable[[str, str], None] = lambda _id, _sink: None,
    ) -> None:
        self.name = name
        self._sink = sink
        self._component = component
        self._changed = changed
        self._confirmed_after_all = confirmed_after_all
        self._opened = False
        self._without_confirmation: set[str] = set()
        self._out: set[asyncio.Task[object]] = set()
        self._awaited = 0
        self.sends_while_down = 0
        """How often it was sent anything while it was down."""
        self.down = True
        """Whether it takes nothing at the moment, as far as is known; so too before it has been opened."""

    @property
    def opened(self) -> bool:
        """Whether it has been opened successfully."""
        return self._opened

    @property
    def out(self) -> Collection[asyncio.Task[object]]:
        """What will still bring an answer of the sink, waited for or not."""
        return self._out

    @property
    def busy(self) -> bool:
        """Whether an answer of the sink is awaited, and not yet given up."""
        return self._awaited > 0

    async def send(self, deliveries: Sequence[Delivery], *, deadline: float, give_up_at: float, first: bool) -> list[Outcome]:
        """What became of each event, by `give_up_at` at the latest; a send is never cancelled, so what is still out is Unknown.

        `first` tells that these events have not been tried before. Raises SinkGoneError, and nothing else.
        """
        task = asyncio.create_task(self._send(deliveries, deadline))
        self._keep(task)
        self._awaited += 1
        self.sends_while_down += self.down
        try:
            await asyncio.wait([task], timeout=max(0.0, give_up_at - asyncio.get_running_loop().time()))
        except asyncio.CancelledError:
            for index, delivery in enumerate(deliveries):
                self._keep(asyncio.create_task(self._follow(task, index, delivery.event.id)))
            raise
        finally:
            self._awaited -= 1
        if task.done():
            outcomes = list(task.result())
        else:
            outcomes = [Unknown(asyncio.ensure_future(_late(task, index))) for index in range(len(deliveries))]
        self._tally(deliveries, outcomes, first=first)
        return outcomes

    def _note_late(self, answer: asyncio.Future[Confirmed | Refused | Again]) -> None:
        if not answer.cancelled() and not answer.exception() and isinstance(answer.result(), Confirmed):
            self._component.confirmed += 1
            self.works()

    async def _follow(self, send: asyncio.Task[Sequence[Outcome]], index: int, message_id: str) -> None:
        """The process ends, and nobody else waits for the outcome of this event."""
        with suppress(SinkGoneError):
            if isinstance(await _late(send, index), Confirmed):
                self._confirmed_after_all(message_id, self.name)

    def _keep(self, task: asyncio.Task[object]) -> None:
        self._out.add(task)  # the event loop itself keeps no task alive
        task.add_done_callback(self._out.discard)

    async def _send(self, deliveries: Sequence[Delivery], deadline: float) -> Sequence[Outcome]:
        now = asyncio.get_running_loop().time
        begun = now()
        try:
            outcomes = list(await self._sink.send([delivery.event for delivery in deliveries], deadline))
        except SinkGoneError:
            raise
        except BridgeError as problem:
            self.fails(str(problem))
            return [Again(str(problem))] * len(deliveries)
        except Exception as problem:
            log.exception("the sink broke its contract: send raised what it should not", component=self._component.name)
            self.fails(f"{type(problem).__name__}: {problem}")
            return [Again("the sink broke its contract")] * len(deliveries)
        finally:
            self._component.send_seconds.observe(now() - begun)
        if outcomes.count(CONFIRMED) == len(outcomes) == len(deliveries):  # as a rule
            return outcomes
        if len(outcomes) != len(deliveries) or not all(isinstance(outcome, Outcome) for outcome in outcomes):
            kinds = ", ".join(sorted({type(outcome).__name__ for outcome in outcomes}))
            self.fails(f"the sink broke its contract: {len(deliveries)} events, {len(outcomes)} outcomes ({kinds})")
            return [Again("the sink broke its contract")] * len(deliveries)
        return outcomes

    def _tally(self, deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], *, first: bool) -> None:
        confirmed = outcomes.count(CONFIRMED)
        if confirmed < len(outcomes):
            for outcome in outcomes:
                if isinstance(outcome, Unknown):
                    outcome.answer.add_done_callback(self._note_late)
        if confirmed:
            self._component.confirmed += confirmed
            self.works()
        elif first and not self.down:
            self._without_confirmation.update(delivery.event.id for delivery in deliveries)
            if (events := len(self._without_confirmation)) >= SEVERAL:
                self.fails(f"{events} events in a row were not confirmed; the last: {_why(outcomes[-1])}")

    def works(self) -> None:
        """It has confirmed an event, or has been opened: it is up."""
        self._component.works()
        if self._without_confirmation:
            self._without_confirmation.clear()
        if self.down:
            self.down = False
            self._changed()

    def fails(self, error: str) -> None:
        """It has trouble that isn't about one event: it is down."""
        self._component.fails(error)
        self._without_confirmation.clear()
        self.down = True
        self._changed()

    async def usable(self) -> bool:
        """Whether it is worth trying it with an event: open it if it isn't yet, else ask it where it can be asked.

        Raises FixSettingsError when it says at its first opening that only a person can mend it, and SinkGoneError.
        """
        try:
            if not self._opened:
                await asyncio.wait_for(self._sink.open(), OPEN_SECONDS)
                self._opened = True
                self.works()
            elif isinstance(self._sink, ProbedSink):
                await asyncio.wait_for(self._sink.probe(), PROBE_SECONDS)
        except (SinkDownError, FixSettingsError) as problem:
            if isinstance(problem, FixSettingsError) and self._component.last_error is None:
                raise
            self.fails(str(problem))
            return False
        except SinkGoneError:
            raise
        except TimeoutError:
            self.fails(f"no answer within {PROBE_SECONDS if self._opened else OPEN_SECONDS:g} s")
            return False
        except Exception as problem:
            log.exception("the sink broke its contract: it raised what it should not", component=self._component.name)
            self.fails(f"{type(problem).__name__}: {problem}")
            return False
        return True

    async def close(self, seconds: float) -> None:
        """Close the sink, which is bounded by itself; for so many seconds if it isn't."""
        try:
            await asyncio.wait_for(self._sink.close(), seconds)
        except TimeoutError:
            log.warning("the sink did not close in time", component=self._component.name, seconds=seconds)
        except Exception:
            log.exception("the sink broke its contract: close raised", component=self._component.name)


async def settled(outcome: Unknown) -> Confirmed | Refused | Again:
    """The answer that is still out, whenever it comes; waiting for it stops nothing, nor does no longer waiting."""
    await asyncio.wait([outcome.answer])
    if outcome.answer.cancelled():
        return Again("its answer was cut off")
    problem = outcome.answer.exception()
    if isinstance(problem, SinkGoneError):
        raise problem
    answer = None if problem else outcome.answer.result()
    return answer if isinstance(answer, Confirmed | Refused | Again) else Again(f"its answer broke off: {problem!r}")


async def _late(send: asyncio.Task[Sequence[Outcome]], index: int) -> Confirmed | Refused | Again:
    """The outcome of one event of a send that was given up waiting for."""
    await asyncio.wait([send])
    if send.cancelled():
        return Again("its answer was cut off")
    outcome = send.result()[index]
    return await settled(outcome) if isinstance(outcome, Unknown) else outcome


def _why(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Refused | Again) else "no answer in time"
