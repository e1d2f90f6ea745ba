"""The part of the ledger that several processes share, in a store which may be slow, or gone (design.md, promises 2 and 9).

It never holds up the delivery: a question waits half a second at most, none is asked while the store is known to be gone, and
everything else happens beside the flow. When nothing goes wrong the store isn't called at all.
"""

import asyncio
import contextlib
import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol

import structlog

from bridge.delivery.pace import Backoff
from bridge.errors import TryAgainError
from bridge.watch.facts import Component

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

LOOKUP_SECONDS = 0.5
"""How long redeliveries are held up by a store that doesn't answer, once: then it counts as gone."""
CALL_SECONDS = 5.0
"""How long it may take to answer where nobody waits for it."""
PAUSE_FIRST_SECONDS, PAUSE_CEILING_SECONDS = 0.5, 10.0
"""Between attempts to reach a store that is gone."""
MAX_BATCH = 500
"""The most entries that one call writes."""
MAX_WAITING = 10_000
"""The most entries that wait to be written; beyond it the oldest are dropped, as their messages have come again by then."""
MAX_WRITTEN = 100_000
"""The most entries of which is known that the store has them; one that isn't cleared ends by itself."""
FLUSH_SHARE = 0.75
"""How much of the time for closing is for what has still to be written."""


class Store(Protocol):
    """Where the entries of one consumer group are. Every call raises TryAgainError, and nothing else on purpose.

    The store lets an entry go when no redelivery of its message can come any more, three days after it was written.
    """

    async def read(self, message_ids: Sequence[str]) -> Sequence[Iterable[str]]:
        """The sinks in the entry of each message, in one round trip; none where there is no entry."""
        ...

    async def write(self, entries: Mapping[str, frozenset[str]]) -> None:
        """Add sinks to the entries of messages, by message id; clear the entry where no sink is given. Twice is like once."""
        ...

    async def check(self) -> None:
        """Find out whether it is there."""
        ...

    async def close(self) -> None:
        """Let go of its connections."""
        ...


class SharedLedger:
    """A store, and what has still to be written to it. Used from one event loop, and only until `close`.

    `counts` counts `lookups`, those that were `skipped` as the store was gone, the messages that were `hits`, `failures` of
    calls, and entries that were `dropped`: never written.
    """

    def __init__(self, store: Store, component: Component, counts: Counter[str], rng: random.Random) -> None:
        self._store = store
        self._component = component
        self._counts = counts
        self._backoff = Backoff(PAUSE_FIRST_SECONDS, PAUSE_CEILING_SECONDS, rng)
        self._waiting: dict[str, frozenset[str]] = {}  # to be written, by message id; without sinks: to be cleared
        self._written: OrderedDict[str, frozenset[str]] = OrderedDict()  # what the store has, or may have
        self._gone = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Find out whether the store is there, beside the flow."""
        self._begin()

    def write(self, message_id: str, sinks: frozenset[str]) -> None:
        """Have an entry written, soon; it is tried until it succeeds, or has to make room."""
        if message_id in self._waiting or not sinks <= self._written.get(message_id, frozenset()):
            self._enqueue(message_id, sinks)

    def clear(self, message_id: str) -> None:
        """Have an entry cleared, if there may be one."""
        if message_id in self._written:
            self._enqueue(message_id, frozenset())
        else:
            self._waiting.pop(message_id, None)

    async def read(self, message_ids: Sequence[str], *, seconds: float) -> Mapping[str, frozenset[str]]:
        """The entries of these messages, where there are any; nothing when the store is gone, or too slow. Raises nothing."""
        if self._gone or seconds <= 0:
            self._counts["skipped"] += 1
            return {}
        self._counts["lookups"] += 1
        try:
            async with asyncio.timeout(min(seconds, LOOKUP_SECONDS)):
                entries = [frozenset(sinks) for sinks in await self._store.read(message_ids)]
        except (TryAgainError, TimeoutError) as problem:
            self._fails(problem)
            return {}
        self._works()
        known = {message_id: sinks for message_id, sinks in zip(message_ids, entries, strict=True) if sinks}
        self._counts["hits"] += len(known)
        for message_id, sinks in known.items():
            self._note_written(message_id, sinks)
        return known

    async def close(self, seconds: float) -> None:
        """Write what waits, and let go of the store, within so many seconds."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * FLUSH_SHARE):
                if self._task:
                    self._task.cancel()
                    await asyncio.wait([self._task])
                while self._waiting and await self._call():
                    pass
        if lost := sum(map(bool, self._waiting.values())):
            self._counts["dropped"] += lost
            log.warning("the ledger's last entries were not written; their messages may be sent again", messages=lost)
        with contextlib.suppress(TryAgainError, TimeoutError):
            async with asyncio.timeout(seconds * (1 - FLUSH_SHARE)):
                await self._store.close()

    # ---- beside the flow ---------------------------------------------------------------------------------------------

    def _enqueue(self, message_id: str, sinks: frozenset[str]) -> None:
        if len(self._waiting) >= MAX_WAITING and message_id not in self._waiting:
            del self._waiting[next(iter(self._waiting))]
            self._counts["dropped"] += 1
        self._waiting[message_id] = sinks
        self._begin()

    def _begin(self) -> None:
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        """Go on until the store is there and has everything."""
        await self._call()
        while self._gone or self._waiting:
            if self._gone:
                await asyncio.sleep(self._backoff.pause())
            await self._call()

    async def _call(self) -> bool:
        """Write the oldest of what waits, or see whether the store is there; tells whether it was."""
        batch = dict(islice(self._waiting.items(), MAX_BATCH))
        for message_id, sinks in batch.items():  # beforehand, as a call that fails may have had its effect
            self._note_written(message_id, sinks)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await (self._store.write(batch) if batch else self._store.check())
        except (TryAgainError, TimeoutError) as problem:
            self._fails(problem)
            return False
        for message_id, sinks in batch.items():
            if self._waiting.get(message_id) == sinks:  # and hasn't changed in the meantime
                del self._waiting[message_id]
                if not sinks:
                    self._written.pop(message_id, None)
        self._works()
        return True

    def _note_written(self, message_id: str, sinks: frozenset[str]) -> None:
        self._written[message_id] = sinks
        self._written.move_to_end(message_id)
        if len(self._written) > MAX_WRITTEN:
            self._written.popitem(last=False)

    def _works(self) -> None:
        self._gone = False
        self._backoff.reset()
        self._component.works()

    def _fails(self, problem: Exception) -> None:
        self._counts["failures"] += 1
        what = "no answer in time" if isinstance(problem, TimeoutError) else str(problem)
        self._component.fails(f"{what}; messages are delivered all the same (BRIDGE_LEDGER__REDIS_URL)")
        if not self._gone:
            self._gone = True
            # It may come back empty, so what is still in doubt is written again; what it may have kept is still cleared.
            self._written = OrderedDict.fromkeys(self._written, frozenset())
        self._begin()
