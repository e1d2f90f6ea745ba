"""Several bridges of one consumer group, at one broker and with one shared store, on a clock that costs no time."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from bridge.delivery.dead_letter import DeadLetters
from bridge.delivery.engine import Engine, Rules
from bridge.delivery.shared_ledger import Store
from bridge.emulator.broker import Broker
from bridge.errors import TryAgainError
from bridge.source import Delivery, NotAcked
from bridge.testing import MemorySink
from bridge.watch.facts import Facts
from worlds.world import MEMORY, BrokerSource, World

SLOW = Rules(wait_seconds=1)
"""Short polls, so that replicas take turns."""
GONE = TryAgainError("connection refused")


class MemoryStore:
    """A `Store` as one process sees it. `trouble` is raised by every call; while `hold` is cleared none is answered."""

    def __init__(self, entries: dict[str, set[str]]) -> None:
        self.entries = entries
        self.calls: Counter[str] = Counter()
        self.trouble: TryAgainError | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def read(self, message_ids: Sequence[str]) -> Sequence[Iterable[str]]:
        await self._answer("read")
        return [self.entries.get(message_id, ()) for message_id in message_ids]

    async def write(self, entries: Mapping[str, frozenset[str]]) -> None:
        await self._answer("write")
        for message_id, sinks in entries.items():
            if sinks:
                self.entries.setdefault(message_id, set()).update(sinks)
            else:
                self.entries.pop(message_id, None)

    async def check(self) -> None:
        await self._answer("check")

    async def close(self) -> None:
        await self._answer("close")

    async def _answer(self, call: str) -> None:
        self.calls[call] += 1
        await asyncio.sleep(0.001)
        await self.hold.wait()
        if self.trouble:
            raise TryAgainError(str(self.trouble))  # a new one, as one that is raised again keeps all it went through


def a_broker(*, lease: float = 20.0) -> Broker:
    milliseconds = round(lease * 1000)
    return Broker(rng=random.Random(7), invisible=milliseconds, ordered_invisible=milliseconds)


class Replica(World):
    """One bridge, and the store as it sees it."""

    store: MemoryStore

    async def crash(self) -> None:
        """End it at once, without a last word to anybody."""
        self.store.trouble = GONE
        self.running.cancel()
        await asyncio.wait([self.running])


@asynccontextmanager
async def replica(
    broker: Broker,
    entries: dict[str, set[str]] | None,
    sink: MemorySink | None = None,
    *,
    store: Store | None = None,
    others: Mapping[str, MemorySink] | None = None,
    dead_letters: MemorySink | None = None,
    rules: Rules = SLOW,
    seed: int = 7,
) -> AsyncIterator[Replica]:
    """A bridge at work; it is drained at the end. Its store is another one, or, without entries, there is none."""
    rng = random.Random(seed)
    source, sink = BrokerSource(broker, ordered=rules.ordered), sink or MemorySink()
    sinks = {MEMORY: sink, **(others or {})}
    now = asyncio.get_running_loop().time
    facts = Facts(sinks, dead_letters=dead_letters is not None, shared_ledger=True, wall_clock=now, monotonic=now)
    letters = DeadLetters(MEMORY, dead_letters, facts.dead_letter) if dead_letters and facts.dead_letter else None
    memory = MemoryStore({} if entries is None else entries)
    used = store or (None if entries is None else memory)
    engine = Engine(source, sinks, facts, rules, dead_letters=letters, ledger_store=used, rng=rng)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(engine.run())
        one = Replica(source, sink, facts, engine, running)
        one.store = memory
        yield one
        if not running.done():
            engine.interrupt()


def lossy(one: Replica, *, share: float) -> None:
    """Of its acks some are refused, message by message, some take effect and their answer is lost, some don't arrive."""
    real, rng = one.source.ack, one.source.broker._rng

    async def ack(deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        fate = rng.random()
        if fate < share:
            await asyncio.sleep(0.001)
            return [NotAcked(delivery=delivery, code="ReceiptHandleError") for delivery in deliveries]
        not_acked = await real(deliveries)
        if fate > 1 - share:
            raise TryAgainError("cut", answer_lost=True)
        return not_acked

    one.source.ack = ack  # type: ignore[method-assign]
