"""Sinks, and what stands behind them: it outlives every process, and decides what becomes of each call."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, ProbedSink, Refused, Sink, Unknown
from simulation import story
from simulation.plan import Fault, Mode
from simulation.story import Delivered, Letter, Story
from simulation.weather import Later, Weather

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side says of one event; `follows` when the answer is still out."""

    outcome: str
    fault: Fault | None = None
    follows: "asyncio.Future[Answer] | None" = None


Reply = Sequence[Answer] | Fault | Mode
"""To one call: for each event, or, of the sink as a whole, how it broke its contract or is down."""


@dataclass(frozen=True, slots=True)
class Call:
    """One `send` at the other side."""

    life: str
    number: int
    deliveries: Sequence[Delivered]
    reply: "asyncio.Future[Reply]"


class OtherSide:
    """What is behind one sink, for all processes: it writes what it is sent, or not, and answers, or not."""

    def __init__(self, name: str, *, weather: Weather, rng: random.Random, told: Story, later: Later, lease: float) -> None:
        self.name = name
        self.modes: list[Mode] = []
        """The outages that are on; the last one begun shows."""
        self.dead: set[str] = set()
        """Processes whose connections are gone."""
        self.numbers = itertools.count(1)
        self._weather = weather
        self._rng = rng
        self._story = told
        self._later = later
        self._lease = lease
        self._to_come: dict[Callable[[], None], asyncio.TimerHandle] = {}

    def clear(self) -> None:
        """Nothing fails any more, and every answer that is still out comes."""
        self.modes.clear()
        for come in list(self._to_come):
            self._come(come)

    def take(self, call: Call) -> None:
        """One `send` has arrived."""
        mode = self.modes[-1] if self.modes else None
        troubles = _OF_A_CALL if mode is None else (Fault.DOWN_THOUGH_WRITTEN,) if mode is Mode.RAISES else ()
        fault = self._weather.first(self._rng, *troubles)
        seconds = self._latency()
        if mode is Mode.HANGS or fault is Fault.HANGS:
            self._hang(call)
        elif fault is Fault.DOWN_THOUGH_WRITTEN:
            self._later(seconds, self._write, call, call.deliveries, Mode.RAISES)
        elif fault is Fault.BREACH or mode is Mode.RAISES:
            self._later(seconds, _settle, call.reply, fault or mode)
        elif mode is not None:
            outcome = "refused" if mode is Mode.REFUSES else "again"
            self._later(seconds, _settle, call.reply, [Answer(outcome)] * len(call.deliveries))
        else:
            self._answer(call, seconds)

    def ask(self, reply: "asyncio.Future[Mode | None]") -> None:
        """`open` or `probe` has arrived."""
        mode = self.modes[-1] if self.modes else None
        if mode is Mode.HANGS:
            self._sometime(3 * self._lease, lambda: _settle(reply, None))
        else:
            self._later(self._latency(), _settle, reply, mode if mode is Mode.RAISES else None)

    def _hang(self, call: Call) -> None:
        outcome = self._rng.choice(("confirmed", "again"))
        answers = [Answer(outcome, Fault.HANGS)] * len(call.deliveries)
        written = call.deliveries if outcome == "confirmed" else ()
        self._sometime(self._rng.choice((0.5, 3.0)) * self._lease, lambda: self._write(call, written, answers))

    def _answer(self, call: Call, seconds: float) -> None:
        answers, written = [], []
        for delivered in call.deliveries:
            message = delivered.message
            if self.name in message.refused_by:
                answers.append(Answer("refused"))
            elif self.name in message.fails_at and not self._weather.cleared:
                answers.append(Answer("again"))
            elif (fault := self._weather.first(self._rng, *_OF_ONE_EVENT)) is None:
                answers.append(Answer("confirmed"))
                written.append(delivered)
            elif fault in (Fault.AGAIN, Fault.AGAIN_THOUGH_WRITTEN):
                answers.append(Answer("again", fault))
                written += [delivered] if fault is Fault.AGAIN_THOUGH_WRITTEN else []
            else:
                answers.append(Answer("unknown", fault, self._follow(call, delivered, fault)))
        share = self._rng.random()  # how much of the time goes before it is written
        self._later(seconds * share, self._write, call, written, answers, seconds * (1 - share))

    def _follow(self, call: Call, delivered: Delivered, fault: Fault) -> "asyncio.Future[Answer]":
        follows: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        outcome = {Fault.LATE: "confirmed", Fault.LATE_AGAIN: "again", Fault.CUT_OFF: "cut off"}[fault]
        written = fault is Fault.LATE or (fault is Fault.CUT_OFF and self._rng.random() < 0.5)
        seconds = self._rng.choice((0.0, 1.0, 0.5 * self._lease, 2 * self._lease))

        def come() -> None:
            if not written or self._written(call, [delivered]):
                _settle(follows, Answer(outcome, fault))

        self._sometime(seconds, come)
        return follows

    def _write(self, call: Call, deliveries: Sequence[Delivered], said: Reply, seconds: float = 0.0) -> None:
        """What was sent becomes durable, and after so many seconds the answer is there."""
        if not self._written(call, deliveries):
            return
        if seconds:  # not even a loop in disorder answers before
            self._later(seconds, _settle, call.reply, said)
        else:
            _settle(call.reply, said)

    def _written(self, call: Call, deliveries: Sequence[Delivered]) -> bool:
        """Write these; of what a process sent that has died, perhaps nothing arrives."""
        if call.life in self.dead and self._rng.random() < 0.5:
            return False
        for delivered in deliveries:
            self._story.tell(story.Written(self.name, call.number, delivered))
        return True

    def _latency(self) -> float:
        if self._weather.first(self._rng, Fault.SINK_SLOW) is not None:
            return self._rng.choice((1.0, 5.0, 0.5 * self._lease, 1.2 * self._lease))
        return self._rng.choice((0.0, 0.005, 0.05))

    def _sometime(self, seconds: float, come: Callable[[], None]) -> None:
        """After so many seconds, or as soon as the weather clears."""
        self._to_come[come] = self._later(0.0 if self._weather.cleared else seconds, self._come, come)

    def _come(self, come: Callable[[], None]) -> None:
        self._to_come.pop(come).cancel()
        come()


_OF_A_CALL = (Fault.HANGS, Fault.BREACH, Fault.DOWN_THOUGH_WRITTEN)
_OF_ONE_EVENT = (Fault.AGAIN, Fault.AGAIN_THOUGH_WRITTEN, Fault.LATE, Fault.LATE_AGAIN, Fault.CUT_OFF)


def _settle(reply: "asyncio.Future[T]", said: T) -> None:
    if not reply.done():
        reply.set_result(said)


class NoSettings(BaseModel):
    """There is nothing to set."""


class ModelSink(Sink):
    """One process's end of a sink."""

    Settings = NoSettings

    def __init__(self, life: str, other: OtherSide, told: Story, identify: Callable[[Event], Delivered]) -> None:
        super().__init__(NoSettings())
        self._life = life
        self._other = other
        self._story = told
        self._identify = identify

    async def open(self) -> None:
        self._story.tell(story.Opening(self._life, self._other.name))
        try:
            await self._ask()
        except asyncio.CancelledError:
            self._story.tell(story.OpenCancelled(self._life, self._other.name))
            raise
        self._story.tell(story.Opened(self._life, self._other.name))

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        call = next(self._other.numbers)
        loop = asyncio.get_running_loop()
        deliveries = [self._identify(event) for event in events]
        letters = [_letter(event) for event in events]
        self._story.tell(story.Sent(self._life, self._other.name, call, deliveries, deadline - self._story.begun, letters))
        if loop.time() >= deadline:
            return [self._outcome(call, delivered, Answer("again")) for delivered in deliveries]
        reply: asyncio.Future[Reply] = loop.create_future()
        self._other.take(Call(self._life, call, deliveries, reply))
        try:
            said = await reply
        except asyncio.CancelledError:
            self._story.tell(story.SendCancelled(self._life, self._other.name, call))
            raise
        if isinstance(said, Mode):
            self._story.tell(story.SinkDown(self._life, self._other.name, call))
            raise SinkDownError(said.value)
        if isinstance(said, Fault):
            outcomes = [self._outcome(call, delivered, Answer("again", said)) for delivered in deliveries]
            if call % 2:
                raise RuntimeError(said.value)
            return outcomes[1:]
        return [self._outcome(call, delivered, answer) for delivered, answer in zip(deliveries, said, strict=True)]

    async def close(self) -> None:
        await asyncio.sleep(0.0)

    async def _ask(self) -> None:
        reply: asyncio.Future[Mode | None] = asyncio.get_running_loop().create_future()
        self._other.ask(reply)
        mode = await reply
        if mode is not None:
            self._story.tell(story.SinkDown(self._life, self._other.name, None))
            raise SinkDownError(mode.value)

    def _outcome(self, call: int, delivered: Delivered, answer: Answer) -> Outcome:
        self._story.tell(story.Told(self._life, self._other.name, call, delivered, answer.outcome, answer.fault))
        if answer.follows is None:
            return _OUTCOMES[answer.outcome]
        known: asyncio.Future[Confirmed | Refused | Again] = asyncio.get_running_loop().create_future()

        def follow(follows: "asyncio.Future[Answer]") -> None:
            late = follows.result()
            self._story.tell(story.Told(self._life, self._other.name, call, delivered, late.outcome, late.fault))
            if late.outcome == "cut off":
                known.cancel()
            else:
                known.set_result(_OUTCOMES[late.outcome])

        answer.follows.add_done_callback(follow)
        return Unknown(known)


_OUTCOMES: dict[str, Confirmed | Refused | Again] = {
    "confirmed": CONFIRMED,
    "refused": Refused("never"),
    "again": Again("not now"),
}


def _letter(event: Event) -> Letter | None:
    """What a dead letter says of itself; None for an event that isn't one."""
    if "mqdeadreason" not in event.attributes:
        return None
    return Letter(str(event.attributes["mqdeadreason"]), tuple(str(event.attributes.get("mqdeadsink", "")).split(",")))


class ProbedModelSink(ModelSink, ProbedSink):
    """One that can be asked whether it is up."""

    async def probe(self) -> None:
        await self._ask()
