"""The sinks together, coupled on purpose: one that is down stops the polling for all (design.md 5, Several sinks)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bridge.delivery.ledger import Ledger
from bridge.delivery.outlet import Outlet, settled
from bridge.delivery.pace import wait
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, Refused, Sink, Unknown
from bridge.source import Delivery
from bridge.watch.facts import Facts

MAX_TRIALS = 3
"""An event that was tried more often than this doesn't try a sink that is down: it may be what the sink chokes on."""

SETTLE_SECONDS = 0.1
"""What sinks have answered while they closed takes a few turns of the event loop to be known."""


@dataclass(frozen=True, slots=True)
class Condemned:
    """Refused for good, by some of the sinks."""

    reason: str
    sinks: tuple[str, ...]


Answer: TypeAlias = "asyncio.Future[Confirmed | Condemned | Again]"


@dataclass(frozen=True, slots=True)
class Pending:
    """The answer of some sink is still out; waiting for it stops nothing, nor does no longer waiting."""

    answer: Answer


Verdict = Confirmed | Condemned | Again | Pending
"""What became of an event at all sinks together."""


class Outlets:
    """Every sink, by name. While any is down, who wants to send waits for a `turn`; `let_one_try` lets the first through."""

    def __init__(self, sinks: Mapping[str, Sink], facts: Facts, ledger: Ledger) -> None:
        self._outlets = [
            Outlet(name, sink, facts.sinks[name], self._look_again, self._confirmed_after_all) for name, sink in sinks.items()
        ]
        self._answers: set[Answer] = set()  # that are out
        self._ledger = ledger
        self._up = asyncio.Event()
        self._turns: dict[asyncio.Future[bool], int] = {}  # to how often its event has been tried
        self._abandoned = False
        self.down_since = asyncio.get_running_loop().time()
        """When the outage that is, or was the last one, began; on the event loop's clock."""

    def __getitem__(self, name: str) -> Outlet:
        """The one sink of that name."""
        return next(outlet for outlet in self._outlets if outlet.name == name)

    @property
    def down(self) -> bool:
        """Whether nothing should be polled."""
        return not self._up.is_set()

    @property
    def opened(self) -> bool:
        """Whether all have been opened successfully."""
        return all(outlet.opened for outlet in self._outlets)

    @property
    def busy(self) -> bool:
        """Whether an answer of a sink that is down is awaited."""
        return any(outlet.down and outlet.busy for outlet in self._outlets)

    @property
    def sends_while_down(self) -> int:
        """How often a sink was sent anything while it was down: what that brings tells whether it still is."""
        return sum(outlet.sends_while_down for outlet in self._outlets)

    # ---- sending -----------------------------------------------------------------------------------------------------

    async def send(
        self, deliveries: Sequence[Delivery], *, deadline: float, give_up_at: float, first: bool
    ) -> Sequence[Verdict]:
        """What became of each event; see `Outlet.send`. A sink that has confirmed an event before isn't sent it again."""
        if len(self._outlets) == 1:
            only = await self._outlets[0].send(deliveries, deadline=deadline, give_up_at=give_up_at, first=first)
            return [
                CONFIRMED if outcome is CONFIRMED else self._verdict(delivery.event.id, (outcome,))
                for delivery, outcome in zip(deliveries, only, strict=True)
            ]

        async def send_to(outlet: Outlet) -> list[Outcome]:
            wanting = [delivery for delivery in deliveries if not self._ledger.has(delivery.event.id, outlet.name)]
            if not wanting:
                return [CONFIRMED] * len(deliveries)
            sent = iter(await outlet.send(wanting, deadline=deadline, give_up_at=give_up_at, first=first))
            return [next(sent) if delivery in wanting else CONFIRMED for delivery in deliveries]

        by_outlet = await asyncio.gather(*(send_to(outlet) for outlet in self._outlets))
        by_event = zip(*by_outlet, strict=True)
        return [self._verdict(d.event.id, outcomes) for d, outcomes in zip(deliveries, by_event, strict=True)]

    def _verdict(self, message_id: str, outcomes: Sequence[Outcome]) -> Verdict:
        """The outcomes at all sinks as one: answers that are out come first, then refusals, then what is to be tried again."""
        settled_ones = [outcome for outcome in outcomes if not isinstance(outcome, Unknown)]
        if len(settled_ones) == len(outcomes):
            return self._final(message_id, settled_ones)
        if confirmed := [o.name for o, outcome in zip(self._outlets, outcomes, strict=True) if isinstance(outcome, Confirmed)]:
            self._ledger.remember(message_id, *confirmed)
        answer = asyncio.ensure_future(self._later(message_id, outcomes))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)
        return Pending(answer)

    def _confirmed_after_all(self, message_id: str, sink: str) -> None:
        self._ledger.remember(message_id, sink)
        self._ledger.share(message_id)

    async def _later(self, message_id: str, outcomes: Sequence[Outcome]) -> Confirmed | Condemned | Again:
        return self._final(message_id, [await settled(o) if isinstance(o, Unknown) else o for o in outcomes])

    def _final(self, message_id: str, outcomes: Sequence[Confirmed | Refused | Again]) -> Confirmed | Condemned | Again:
        refused: dict[str, str] = {}
        again: list[Again] = []
        confirmed: list[str] = []
        for outlet, outcome in zip(self._outlets, outcomes, strict=True):
            if isinstance(outcome, Confirmed):
                confirmed.append(outlet.name)
            elif isinstance(outcome, Refused):
                refused[outlet.name] = outcome.reason
            else:
                again.append(outcome)
        if not refused and not again:
            return CONFIRMED
        if confirmed:
            self._ledger.remember(message_id, *confirmed)
        if refused:
            return Condemned("; ".join(refused.values()), tuple(refused))
        after = max((outcome.after for outcome in again if outcome.after is not None), default=None)
        return Again("; ".join(outcome.reason for outcome in again), after)

    # ---- an outage ---------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        if any(outlet.down for outlet in self._outlets):
            if not self.down:
                self.down_since = asyncio.get_running_loop().time()
            self._up.clear()
        else:
            self._up.set()
            self._end_turns(granted=True)

    async def wait_until_up(self, seconds: float, stopping: asyncio.Event) -> bool:
        """Wait for the outage to end, for so many seconds at most, or for `stopping`; tell whether it has ended."""
        now = asyncio.get_running_loop().time
        until = now() + seconds
        while self.down and not stopping.is_set() and now() < until:  # one sink may go down as another comes up
            await wait(until - now(), self._up, stopping)
        return not self.down

    async def usable(self) -> bool:
        """Whether it is worth trying those that are down with an event; see `Outlet.usable`."""
        return all([await outlet.usable() for outlet in self._outlets if outlet.down])

    async def turn(self, *, until: float, tries: int) -> bool:
        """Wait while a sink is down: for the outage's end, or to be let through as the one that tries. False: too late.

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

    @property
    def awaited(self) -> bool:
        """Whether anybody waits for a turn."""
        return bool(self._turns)

    def let_one_try(self, *, most_tries: float = MAX_TRIALS) -> bool:
        """Let the one of those through that wait for their turn which was tried least; False when all were tried more often."""
        turn = min(self._turns, key=self._turns.__getitem__, default=None)
        if turn is None or self._turns[turn] > most_tries:
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

    async def close(self, seconds: float) -> None:
        """Close all of them at once, see `Outlet.close`, and take in what they answered; that may take SETTLE_SECONDS more."""
        await asyncio.gather(*(outlet.close(seconds) for outlet in self._outlets))
        out: list[asyncio.Future[Any]] = [*self._answers, *(task for outlet in self._outlets for task in outlet.out)]
        if out:
            await asyncio.wait(out, timeout=SETTLE_SECONDS)
