"""One world: the real delivery, in one process or two, between models of a broker and of sinks. A seed decides it all."""

import asyncio
import contextlib
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, NoReturn

import structlog

from bridge.delivery.dead_letter import DeadLetters
from bridge.delivery.engine import Engine
from bridge.delivery.lease import BrokerClock
from bridge.event import Event, Origin
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.source import RocketMQSource
from bridge.watch.facts import Facts
from simulation import story
from simulation.broker_side import EPOCH, GROUP, TOPIC, BrokerSide, Line
from simulation.invariants import invariants
from simulation.invariants.duplicates import DuplicatesAreForced
from simulation.ledger_side import LedgerEnd, LedgerSide
from simulation.loop import GATE, Gate, SimulatedLoop, SpinsError
from simulation.plan import DEAD_LETTERS, ClockSet, Damage, Frozen, Incident, Killed, Message, Outage, Plan, Stopped, draw
from simulation.sink_side import ModelSink, OtherSide, ProbedModelSink
from simulation.story import Delivered, Story
from simulation.weather import Weather

SUBSCRIPTION = Subscription(topic=TOPIC, group=GROUP)
CONVERSION = Conversion(origin=Origin(topic=TOPIC, group=GROUP), source="/rocketmq/orders", type_="test")


class Life:
    """One process, from its start to its end or death. Everything that it does runs through its gate."""

    def __init__(self, name: str, world: "World", wall_offset: float, gone: Callable[[], None]) -> None:
        self.name = name
        self.gate = Gate()
        self.wall_offset = wall_offset
        self.killed = False
        self.ended = False
        self.engine: Engine | None = None
        self._told_to_end = False
        self._world = world
        self._gone = gone
        self._context = copy_context()
        self._context.run(GATE.set, self.gate)

    @property
    def alive(self) -> bool:
        """Whether it has neither ended nor been killed."""
        return not self.ended and not self.killed

    def begin(self) -> None:
        self._world.loop.create_task(self._live(), context=self._context)

    def signal(self) -> None:
        """SIGTERM; a process that is frozen takes it when it thaws, and one that is only beginning when it has begun."""
        self._world.loop.call_soon(self._drain, context=self._context)

    def kill(self) -> None:
        """SIGKILL: its connections break, some of what was on its way arrives, and nothing of it ever runs again."""
        self.killed = True
        self.gate.shut = True
        self._world.story.tell(story.Died(self.name))
        for other in self._world.others.values():
            other.dead.add(self.name)
        if self._world.luck.random() < 0.5:  # else the broker doesn't see it, and hands messages to nobody
            self._world.broker.leave_all(self.name)
        self._gone()

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.alive and not self.gate.shut:
            self.gate.shut = True
            self._world.story.tell(story.Froze(self.name))

    def thaw(self) -> None:
        """SIGCONT."""
        if self.alive and self.gate.shut:
            self._world.story.tell(story.Thawed(self.name))
            self._world.loop.open(self.gate)

    async def _live(self) -> None:
        world, plan = self._world, self._world.plan
        rng = random.Random(f"{world.seed} {self.name}")
        loop = world.loop
        facts = Facts(
            plan.sinks,
            dead_letters=plan.dead_letters,
            shared_ledger=plan.shared_ledger,
            wall_clock=self._wall_clock,
            monotonic=loop.time,
        )
        clock = BrokerClock()
        line = Line(
            self.name,
            world.broker,
            weather=world.weather,
            rng=rng,
            told=world.story,
            later=world.later,
            on_date=clock.observe if plan.tells_dates else None,
        )
        source = RocketMQSource(line, SUBSCRIPTION, CONVERSION, clock=clock, monotonic=loop.time, wall_clock=self._wall_clock)
        kind = ProbedModelSink if plan.probed else ModelSink
        sinks = {name: kind(self.name, other, world.story, world.identify) for name, other in world.others.items()}
        letters = sinks.pop(DEAD_LETTERS, None)
        dead_letters = DeadLetters(DEAD_LETTERS, letters, facts.dead_letter) if letters and facts.dead_letter else None
        store = LedgerEnd(self.name, world.ledger) if plan.shared_ledger else None
        self.engine = Engine(source, sinks, facts, plan.rules, dead_letters=dead_letters, ledger_store=store, rng=rng)
        world.story.tell(story.Started(self.name))
        if self._told_to_end:
            self._drain()
        how = ""
        try:
            await self.engine.run()
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is not what should have happened
            how = repr(problem)
        self.ended = True
        world.story.tell(story.Ended(self.name, how))
        self._gone()

    def _drain(self) -> None:
        self._told_to_end = True
        if self.engine is not None and not self.ended:
            self._world.story.tell(story.Draining(self.name, self._world.plan.rules.grace_seconds))
            self.engine.drain()

    def _wall_clock(self) -> float:
        return EPOCH + self.wall_offset + self._world.loop.time()


class Replica:
    """A place for one process at a time, which is started again when it has gone."""

    def __init__(self, number: int, world: "World") -> None:
        self._letter = "AB"[number]
        self._world = world
        self._wall_offset = 0.0
        self._restart_seconds = 1.0
        self.lives: list[Life] = []

    @property
    def life(self) -> Life:
        """The one that lives, or was the last to."""
        return self.lives[-1]

    def start(self) -> None:
        """Unless the world is closing."""
        if not self._world.closing:
            self.lives.append(Life(f"{self._letter}{len(self.lives) + 1}", self._world, self._wall_offset, self._gone))
            self.life.begin()

    def _gone(self) -> None:
        self._world.later(self._restart_seconds, self.start)

    def set_clock(self, by: float) -> None:
        self._wall_offset += by
        self.life.wall_offset += by

    def kill(self, seconds: float) -> None:
        if self.life.alive:
            self._restart_seconds = seconds
            self.life.kill()

    def stop(self, signals: int, seconds: float) -> None:
        if self.life.alive:
            self._restart_seconds = seconds
            for number in range(signals):
                self._world.later(float(number), self.life.signal)


class World:
    """The world of one seed; `run` lives through it. `only` is the one promise to look after, by name; all when not given.

    With `logs`, what the processes log becomes part of the story.
    """

    def __init__(self, seed: int, *, only: str | None = None, logs: bool = False) -> None:
        self.seed = seed
        self.plan = plan = draw(seed)
        # it leaves out what needs sockets, threads or processes
        self.loop = SimulatedLoop(random.Random(f"order {seed}"), plan.disorder)  # type: ignore[abstract]
        self.luck = random.Random(f"luck {seed}")
        self.closing = False
        self._logs = logs
        self._context = copy_context()
        self._watchers = [promise for promise in invariants(plan) if only in (None, type(promise).__name__)]
        self.story = Story(self.loop.time, watchers=self._watchers)
        self.weather = Weather(plan.rates)
        self.broker = BrokerSide(plan, random.Random(f"broker {seed}"), self.story, self.later)
        self.ledger = LedgerSide(
            self.broker.messages,
            weather=self.weather,
            rng=random.Random(f"ledger {seed}"),
            told=self.story,
            later=self.later,
        )
        names = (*plan.sinks, DEAD_LETTERS) if plan.dead_letters else plan.sinks
        self.others = {
            name: OtherSide(
                name,
                weather=self.weather,
                rng=random.Random(f"{name} {seed}"),
                told=self.story,
                later=self.later,
                lease=plan.lease,
            )
            for name in names
        }
        self._replicas = [Replica(number, self) for number in range(plan.replicas)]
        self._unsettled = {message.number: message for message in plan.load if not _stays(message, plan)}
        self.broker.on_ack = self._note_ack

    def run(self) -> Story:
        """Live through it, to the end or to the first violation."""
        with self._hear_logs():
            try:
                self.loop.run(self._main(), until=lambda: self.story.violation is not None)
            except SpinsError:
                self.story.violate("CallsAreBounded", "it works on and on without the passing of time")
            self.story.over = True
            with contextlib.suppress(SpinsError):
                self.loop.run(self._curtain(), until=lambda: False)
        return self.story

    @contextmanager
    def _hear_logs(self) -> Iterator[None]:
        before = structlog.get_config() if structlog.is_configured() else None
        least = logging.DEBUG if self._logs else logging.CRITICAL
        structlog.configure(processors=[self._hear], wrapper_class=structlog.make_filtering_bound_logger(least))
        try:
            yield
        finally:
            structlog.configure(**before) if before else structlog.reset_defaults()

    def _hear(self, _: object, level: str, line: MutableMapping[str, Any]) -> NoReturn:
        text = " ".join(f"{name}={value}" for name, value in line.items() if name not in ("event", "exc_info"))
        self.story.tell(story.Logged(level, f"{line['event']} {text}"))
        raise structlog.DropEvent

    def later(self, seconds: float, callback: Any, *args: Any) -> Any:
        """Have something happen in the world, and in no process."""
        return self.loop.call_later(seconds, callback, *args, context=self._context)

    def identify(self, event: Event) -> Delivered:
        """Which delivery an event is of."""
        message = self.broker.messages[event.id]
        times = event.attributes["mqconsumedtimes"]
        assert isinstance(times, int)
        return Delivered(message, times)

    def lives(self) -> list[Life]:
        """Every process that ever was."""
        return [life for replica in self._replicas for life in replica.lives]

    @property
    def duplicates(self) -> Counter[str]:
        """How many events were written twice, by the fault that forced it."""
        return sum((watcher.named for watcher in self._watchers if isinstance(watcher, DuplicatesAreForced)), Counter())

    async def _main(self) -> None:
        plan = self.plan
        for replica in self._replicas:
            replica.start()
        for at, messages in itertools.groupby(plan.load, lambda message: message.at):
            self.later(at, self._publish, list(messages))
        for incident in plan.incidents:
            self.later(incident.at, self._begin, incident)
        await asyncio.sleep(plan.clears_at)
        self._clear()
        backwards = sum(-i.by for i in plan.incidents if isinstance(i, ClockSet) and i.replica is None and i.by < 0)
        patience = self.loop.time() + backwards + 8 * plan.lease + 600
        while self._unsettled and self.loop.time() < patience:  # noqa: ASYNC110 - virtual seconds, which cost nothing
            await asyncio.sleep(5.0)
        if self._unsettled:
            left = " ".join(map(str, self._unsettled.values()))
            self.story.violate("NothingIsLost", f"all is well again for long, and these were never acked: {left}")
        else:
            await self._close()

    async def _close(self) -> None:
        self.closing = True
        for life in self.lives():
            if life.alive:
                life.signal()
        # an answer that was slow before the weather cleared may still be out, and the task that waits for it
        await asyncio.sleep(self.plan.rules.grace_seconds + 2 * self.plan.lease)
        for life in self.lives():
            if life.alive:
                self.story.violate("EndsInTime", f"{life.name} has not ended")
            elif life.ended and (tasks := [task for task in life.gate.tasks if not task.done()]):
                self.story.violate("EndsInTime", f"{life.name} has ended, but not {tasks}")
            elif life.ended and life.engine and life.engine.room.held:
                self.story.violate("EndsInTime", f"{life.name} has ended, and still holds room")
        for problem in self.loop.problems:
            self.story.violate("NothingIsOverlooked", problem)

    async def _curtain(self) -> None:
        """Let what was killed or broken off unwind, seen by nobody."""
        self.closing = True
        for _ in range(3):
            for task in [task for life in self.lives() for task in life.gate.tasks]:
                task.cancel()
            for life in self.lives():
                self.loop.open(life.gate)
            await asyncio.sleep(100.0)

    def _publish(self, messages: list[Message]) -> None:
        for message in messages:
            self.broker.publish(message)

    def _note_ack(self, message: Message) -> None:
        self._unsettled.pop(message.number, None)

    # ---- incidents ---------------------------------------------------------------------------------------------------

    def _begin(self, incident: Incident) -> None:
        if self.weather.cleared:
            return
        self.story.tell(story.Incided(incident))
        if isinstance(incident, Outage):
            modes = self.others[incident.sink].modes
            modes.append(incident.mode)
            self.later(incident.seconds, self._end_outage, incident)
        elif isinstance(incident, ClockSet) and incident.replica is None:
            self.broker.set_clock(incident.by)
        else:
            assert incident.replica is not None
            replica = self._replicas[incident.replica]
            if isinstance(incident, ClockSet):
                replica.set_clock(incident.by)
            elif isinstance(incident, Killed):
                replica.kill(incident.seconds)
            elif isinstance(incident, Stopped):
                replica.stop(incident.signals, incident.seconds)
            elif isinstance(incident, Frozen):
                replica.life.freeze()
                self.later(incident.seconds, replica.life.thaw)

    def _end_outage(self, outage: Outage) -> None:
        modes = self.others[outage.sink].modes
        if outage.mode in modes:
            modes.remove(outage.mode)

    def _clear(self) -> None:
        self.weather.clear()
        self.story.tell(story.Cleared())
        for other in self.others.values():
            other.clear()
        for life in self.lives():
            life.thaw()


def _stays(message: Message, plan: Plan) -> bool:
    """Whether a message can never be acked, and so stays with the broker; in ordered mode it keeps what follows it."""
    ahead = [m for m in plan.load if m.shard == message.shard and m.index <= message.index] if plan.rules.ordered else [message]
    return any(_is_hopeless(m, plan) for m in ahead)


def _is_hopeless(message: Message, plan: Plan) -> bool:
    damaged_for_ever = message.damage is not None and message.damaged_deliveries > 100  # more than there will be
    if message.damage is Damage.WITHOUT_RECEIPT and damaged_for_ever:
        return True
    return not plan.dead_letters and (damaged_for_ever or bool(message.refused_by))
