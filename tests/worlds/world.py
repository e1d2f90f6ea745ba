"""One bridge's delivery, with the emulator's broker rules on one side and a memory sink on the other."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from bridge.delivery.dead_letter import DeadLetters
from bridge.delivery.engine import Engine, Rules
from bridge.emulator.broker import Broker
from bridge.emulator.queues import Subscription
from bridge.errors import BridgeError
from bridge.event import Event, Origin
from bridge.rocketmq.conversion import Conversion
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, Refused, Unknown
from bridge.source import Batch, Delivery, NotAcked
from bridge.testing import MemorySink
from bridge.watch.facts import Facts

TOPIC, GROUP = "orders", "GID_orders"
DEFAULT = Rules()
MEMORY = "memory"

EPOCH = 1_700_000_000.0
"""The broker's clock, in seconds, when the loop's shows 0."""


class BrokerSource:
    """The sans-IO broker as a Source. `refuse_poll` and `refuse_ack` may raise in place of a call's effect."""

    def __init__(self, broker: Broker, *, ordered: bool = False) -> None:
        self.broker = broker
        self.polls: list[tuple[float, int, int]] = []
        """When, for how many, and with how many seconds of waiting each poll was made."""
        self.acks: list[list[str]] = []
        """The message ids of each ack."""
        self.refuse_poll: Callable[[], None] = lambda: None
        self.refuse_ack: Callable[[], None] = lambda: None
        self.lose_ack_answer: Callable[[], BridgeError | None] = lambda: None
        self.holds_polls = True
        self.ack_seconds = 0.001
        self.clock_error = 0.0
        """By how many seconds the ends of leases are believed to be later than they are."""
        self._subscription = Subscription(ordered=ordered)
        self._conversion = Conversion(origin=Origin(topic=TOPIC, group=GROUP), source="/rocketmq/orders", type_="test")
        self._published = asyncio.Event()

    def now(self) -> int:
        return round((EPOCH + asyncio.get_running_loop().time()) * 1000)

    def publish(self, *bodies: str, shard: str | None = None) -> list[str]:
        properties = {"__SHARDINGKEY": shard} if shard else {}
        ids = [self.broker.publish(self.now(), TOPIC, body, properties=properties).message_id for body in bodies]
        self._published.set()
        return ids

    async def receive(self, max_messages: int, wait_seconds: int) -> Batch:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.polls.append((begun, max_messages, wait_seconds))
        await asyncio.sleep(0.001)
        self.refuse_poll()
        while True:
            self._published.clear()
            messages = self.broker.consume(self.now(), TOPIC, GROUP, count=max_messages, subscription=self._subscription)
            remaining = begun + wait_seconds - loop.time()
            if messages or remaining <= 0 or not self.holds_polls:
                break
            change = self.broker.next_change(self.now(), TOPIC, GROUP)
            if change is not None:
                remaining = min(remaining, max(0.001, (change - self.now()) / 1000))
            waiting = asyncio.ensure_future(self._published.wait())
            await asyncio.wait([waiting], timeout=remaining)
            waiting.cancel()
        deliveries = [
            Delivery(
                event=self._conversion.event(message),
                receipt=message.receipt_handle,
                received_at=loop.time(),
                expires_at=message.next_consume_time / 1000 - EPOCH + self.clock_error,
                consumed_times=message.consumed_times,
                shard=message.sharding_key or "",
            )
            for message in messages
        ]
        return Batch(deliveries=deliveries, waited=loop.time() - begun)

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        assert all(delivery.receipt for delivery in deliveries), "nothing can be acked without a receipt"
        self.acks.append([delivery.event.id for delivery in deliveries])
        await asyncio.sleep(self.ack_seconds)
        self.refuse_ack()
        failures = self.broker.ack(self.now(), TOPIC, GROUP, [delivery.receipt for delivery in deliveries])
        if (problem := self.lose_ack_answer()) is not None:
            raise problem
        codes = {failure.receipt_handle: failure.code for failure in failures}
        return [NotAcked(delivery=d, code=codes[d.receipt]) for d in deliveries if d.receipt in codes]


class StillOut:
    """An answer of a sink for `MemorySink`: unknown, until the test gives it; confirmed for what isn't `about`."""

    def __init__(self, about: Callable[[Event], bool] = lambda _: True) -> None:
        self.answers: list[asyncio.Future[Confirmed | Refused | Again]] = []
        self._about = about

    def __call__(self, event: Event) -> Outcome:
        if not self._about(event):
            return CONFIRMED
        self.answers.append(asyncio.get_running_loop().create_future())
        return Unknown(self.answers[-1])


class Unprobed(MemorySink):
    """A probe that always succeeds tells nothing, like a sink without one."""

    async def probe(self) -> None:
        return


class World:
    """An engine at work, and what stands around it."""

    def __init__(
        self, source: BrokerSource, sink: MemorySink, facts: Facts, engine: Engine, running: "asyncio.Task[None]"
    ) -> None:
        self.source = source
        self.sink = sink
        self.facts = facts
        self.engine = engine
        self.running = running
        self.outlets = engine.outlets
        self.outlet = engine.outlets[MEMORY]
        self.ledger = engine.ledger
        self.room = engine.room

    @property
    def acked(self) -> list[str]:
        return self.source.broker.group_ids(self.source.now(), TOPIC, GROUP).acked

    @property
    def backlog(self) -> int:
        return self.source.broker.book(self.source.now(), TOPIC, GROUP).backlog

    async def until(self, condition: Callable[[], bool], *, seconds: float = 3600.0) -> None:
        """Let time pass until it holds; fails when it doesn't within so many seconds, which cost nothing."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not condition():
            assert loop.time() < end, "it never came true"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def world(
    sink: MemorySink | None = None,
    *,
    others: Mapping[str, MemorySink] | None = None,
    dead_letters: MemorySink | None = None,
    lease: float = 300.0,
    max_retries: int = 288,
    rules: Rules = DEFAULT,
) -> AsyncIterator[World]:
    """A world in which the engine has begun; it is drained at the end. The lease is in seconds."""
    rng = random.Random(7)
    milliseconds = round(lease * 1000)
    broker = Broker(rng=rng, invisible=milliseconds, ordered_invisible=milliseconds, max_retries=max_retries)
    source, sink = BrokerSource(broker, ordered=rules.ordered), sink or MemorySink()
    sinks = {MEMORY: sink, **(others or {})}
    now = asyncio.get_running_loop().time
    facts = Facts(sinks, dead_letters=dead_letters is not None, wall_clock=now, monotonic=now)
    letters = DeadLetters(MEMORY, dead_letters, facts.dead_letter) if dead_letters and facts.dead_letter else None
    engine = Engine(source, sinks, facts, rules, dead_letters=letters, rng=rng)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(engine.run())
        yield World(source, sink, facts, engine, running)
        if not running.done():
            engine.interrupt()
