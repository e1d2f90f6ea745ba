"""One bridge's delivery, with the emulator's broker rules on one side and a memory sink on the other."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bridge.delivery.ledger import Ledger
from bridge.delivery.outlet import Outlet
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.pollers import Pollers
from bridge.delivery.room import Room
from bridge.emulator.broker import Broker
from bridge.emulator.queues import Subscription
from bridge.errors import BridgeError
from bridge.rocketmq.conversion import Conversion
from bridge.source import Batch, Delivery, NotAcked
from bridge.testing import MemorySink
from bridge.watch.facts import Facts, Phase

TOPIC, GROUP = "orders", "GID_orders"

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
        self._subscription = Subscription(ordered=ordered)
        self._conversion = Conversion(source="/rocketmq/orders", type_="test", group=GROUP)
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
                expires_at=message.next_consume_time / 1000 - EPOCH,
                consumed_times=message.consumed_times,
                shard=message.sharding_key or "",
            )
            for message in messages
        ]
        return Batch(deliveries=deliveries, waited=loop.time() - begun)

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        self.acks.append([delivery.event.id for delivery in deliveries])
        await asyncio.sleep(self.ack_seconds)
        self.refuse_ack()
        failures = self.broker.ack(self.now(), TOPIC, GROUP, [delivery.receipt for delivery in deliveries])
        if (problem := self.lose_ack_answer()) is not None:
            raise problem
        codes = {failure.receipt_handle: failure.code for failure in failures}
        return [NotAcked(delivery=d, code=codes[d.receipt]) for d in deliveries if d.receipt in codes]


@dataclass
class World:
    source: BrokerSource
    sink: MemorySink
    outlet: Outlet
    ledger: Ledger
    room: Room
    facts: Facts
    pipeline: Pipeline
    pollers: Pollers
    tasks: asyncio.TaskGroup
    polling: "asyncio.Task[None]" = field(init=False)

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

    async def drain(self, seconds: float = 60.0) -> None:
        self.pollers.stop()
        await asyncio.wait([self.polling], timeout=seconds)
        self.pollers.cut()
        self.pipeline.stop_retrying()
        await self.pipeline.finish(seconds, asyncio.Event())


@asynccontextmanager
async def world(
    sink: MemorySink | None = None,
    *,
    ordered: bool = False,
    lease: float = 300.0,
    max_pollers: int = 8,
    wait_seconds: int = 30,
    max_bytes: int = 16 * 1024 * 1024,
    max_retries: int = 288,
    poll: bool = True,
) -> AsyncIterator[World]:
    """A world in which polling has begun, unless `poll` is False; it is drained at the end."""
    rng = random.Random(7)
    milliseconds = round(lease * 1000)
    broker = Broker(rng=rng, invisible=milliseconds, ordered_invisible=milliseconds, max_retries=max_retries)
    source, sink = BrokerSource(broker, ordered=ordered), sink or MemorySink()
    facts = Facts("memory", wall_clock=asyncio.get_running_loop().time)
    outlet, ledger, room = Outlet(sink, facts.sink), Ledger(), Room(max_bytes)
    async with asyncio.TaskGroup() as tasks:
        pipeline = Pipeline(
            source=source,
            outlet=outlet,
            ledger=ledger,
            room=room,
            facts=facts,
            tasks=tasks,
            ordered=ordered,
            margin_seconds=None,
            rng=rng,
        )
        pollers = Pollers(
            source=source,
            pipeline=pipeline,
            outlet=outlet,
            room=room,
            facts=facts,
            tasks=tasks,
            batch_size=16,
            wait_seconds=wait_seconds,
            max_pollers=max_pollers,
            rng=rng,
        )
        facts.phase = Phase.RUNNING
        it = World(source, sink, outlet, ledger, room, facts, pipeline, pollers, tasks)
        it.polling = tasks.create_task(pollers.run() if poll else asyncio.sleep(0))
        if not poll:
            await outlet.usable()
        yield it
        await it.drain()
