"""A sink as the pipeline sees it: every send is bounded, and the sink is either up or down (design.md 5, Down or poison?)."""

import asyncio
from collections.abc import Sequence

import structlog

from bridge.delivery.pace import wait
from bridge.errors import BridgeError, FixSettingsError, SinkDownError, SinkGoneError
from bridge.sinks import Again, Confirmed, Outcome, ProbedSink, Refused, Sink, Unknown
from bridge.source import Delivery
from bridge.watch.facts import Component

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

SEVERAL = 5
"""So many different events in a row that got no confirmation, with none confirmed between them, mean that the sink is down."""

MAX_TRIALS = 3
"""An event that was tried more often than this doesn't try a sink that is down: it may be what the sink chokes on."""


class Outlet:
    """One sink, open or not yet, up or down.

    Down is what stops the polling. It begins with a SinkDownError, or when `SEVERAL` new events in a row got no confirmation;
    an event that fails again while it is parked has been counted before. It ends with the confirmation of any event.
    While it lasts, whoever wants to send waits for a `turn`, and `let_one_try` lets the first of them through.
    """

    def __init__(self, sink: Sink, component: Component) -> None:
        self._sink = sink
        self._component = component
        self.opened = False
        """Whether it has been opened successfully."""
        self._up = asyncio.Event()
        self._without_confirmation: set[str] = set()
        self._sends: set[asyncio.Task[Sequence[Outcome]]] = set()
        self._turns: dict[asyncio.Future[bool], int] = {}  # to how often its event has been tried
        self._abandoned = False

    @property
    def down(self) -> bool:
        """Whether nothing should be polled."""
        return not self._up.is_set()

    @property
    def busy(self) -> bool:
        """Whether an answer of the sink is awaited."""
        return bool(self._sends)

    async def send(self, deliveries: Sequence[Delivery], *, deadline: float, give_up_at: float, first: bool) -> list[Outcome]:
        """What became of each event, by `give_up_at` at the latest; a send is never cancelled, so what is still out is Unknown.

        `first` tells that these events have not been tried before. Raises SinkGoneError, and nothing else.
        """
        task = asyncio.create_task(self._send(deliveries, deadline))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)
        await asyncio.wait([task], timeout=max(0.0, give_up_at - asyncio.get_running_loop().time()))
        if task.done():
            outcomes = list(task.result())
        else:
            outcomes = [Unknown(asyncio.ensure_future(_late(task, index))) for index in range(len(deliveries))]
        self._tally(deliveries, outcomes, first=first)
        return outcomes

    async def _send(self, deliveries: Sequence[Delivery], deadline: float) -> Sequence[Outcome]:
        try:
            outcomes = await self._sink.send([delivery.event for delivery in deliveries], deadline)
        except SinkGoneError:
            raise
        except BridgeError as problem:
            self.fails(str(problem))
            return [Again(str(problem))] * len(deliveries)
        except Exception as problem:
            log.exception("the sink broke its contract: send raised what it should not", component=self._component.name)
            self.fails(f"{type(problem).__name__}: {problem}")
            return [Again("the sink broke its contract")] * len(deliveries)
        if len(outcomes) != len(deliveries):
            self.fails(f"the sink broke its contract: {len(outcomes)} outcomes for {len(deliveries)} events")
            return [Again("the sink broke its contract")] * len(deliveries)
        return outcomes

    def _tally(self, deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], *, first: bool) -> None:
        if any(isinstance(outcome, Confirmed) for outcome in outcomes):
            self.works()
        elif first and not self.down:
            self._without_confirmation.update(delivery.event.id for delivery in deliveries)
            if len(self._without_confirmation) >= SEVERAL:
                self.fails(
                    f"{len(self._without_confirmation)} events in a row were not confirmed; the last: {_why(outcomes[-1])}"
                )

    def works(self) -> None:
        """It has confirmed an event, or has been opened: it is up."""
        self._component.works()
        if self._without_confirmation:
            self._without_confirmation.clear()
        if self.down:
            self._up.set()
            self._end_turns(granted=True)

    def fails(self, error: str) -> None:
        """It has trouble that isn't about one event: it is down."""
        self._component.fails(error)
        self._without_confirmation.clear()
        self._up.clear()

    async def wait_until_up(self, seconds: float, stopping: asyncio.Event) -> bool:
        """Wait for the outage to end, for so many seconds at most, or for `stopping`; tell whether it has ended."""
        await wait(seconds, self._up, stopping)
        return not self.down

    async def turn(self, *, until: float, tries: int) -> bool:
        """Wait while the sink is down: for the outage's end, or to be let through as the one that tries. False: too late.

        `tries` is how often the event has been tried: one that failed often says little about the sink.
        """
        if self._abandoned:
            return False
        if not self.down:
            return True
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._turns[turn] = tries
        await asyncio.wait([turn], timeout=max(0.0, until - loop.time()))
        self._turns.pop(turn, None)
        return turn.done() and turn.result()

    def let_one_try(self) -> bool:
        """Let one of those through that wait for their turn; False when nobody waits who was tried less than `MAX_TRIALS`."""
        turn = min(self._turns, key=self._turns.__getitem__, default=None)
        if turn is None or self._turns[turn] > MAX_TRIALS:
            return False
        del self._turns[turn]
        turn.set_result(True)
        return True

    def abandon_turns(self) -> None:
        """Nobody waits for a turn any more, nor gets one: the bridge is shutting down."""
        self._abandoned = True
        self._end_turns(granted=False)

    def _end_turns(self, *, granted: bool) -> None:
        turns, self._turns = self._turns, {}
        for turn in turns:
            if not turn.done():
                turn.set_result(granted)

    async def usable(self) -> bool:
        """Whether it is worth trying it with a message: open it if it isn't yet, else ask it where it can be asked.

        Raises FixSettingsError when it says at its first opening that only a person can mend it, and SinkGoneError.
        """
        try:
            if not self.opened:
                await self._sink.open()
                self.opened = True
                self.works()
            elif isinstance(self._sink, ProbedSink):
                await self._sink.probe()
        except (SinkDownError, FixSettingsError) as problem:
            if isinstance(problem, FixSettingsError) and self._component.last_error is None:
                raise
            self.fails(str(problem))
            return False
        except SinkGoneError:
            raise
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
    return Again("its answer was cut off") if outcome.answer.cancelled() else outcome.answer.result()


async def _late(send: asyncio.Task[Sequence[Outcome]], index: int) -> Confirmed | Refused | Again:
    """The outcome of one event of a send that was given up waiting for."""
    await asyncio.wait([send])
    if send.cancelled():
        return Again("its answer was cut off")
    outcome = send.result()[index]
    return await settled(outcome) if isinstance(outcome, Unknown) else outcome


def _why(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Refused | Again) else "no answer in time"
