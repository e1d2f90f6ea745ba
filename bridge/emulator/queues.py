"""In which order a group's messages go out: any order, or each shard's own.

A group has one queue for each subscription it polls with, a tag filter and an order. All of them see every
change to an entry that they want, so that an entry is never handed out twice, whichever way it is asked for.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

from bridge.emulator.stored import Entry, State


class Subscription(NamedTuple):
    """What one poll asks for."""

    tags: frozenset[str] | None = None
    """None for every message, those without a tag included."""
    ordered: bool = False

    def wants(self, entry: Entry) -> bool:
        """Whether the filter lets it through."""
        return self.tags is None or entry.message.tag in self.tags


def parse_tags(expression: str) -> frozenset[str] | None:
    """Read `TagA||TagB`; empty or `*` is no filter (protocol.md 2.1)."""
    tags = frozenset(tag for part in expression.split("||") if (tag := part.strip()))
    return None if not tags or tags == {"*"} else tags


class Queue(Protocol):
    """The entries that one subscription can still get."""

    def add(self, entry: Entry) -> None:
        """Take in an entry, ready or leased; entries come in the order of their sequence."""

    def first(self, count: int) -> list[Entry]:
        """The entries, `count` at most, that may go out now; they stay until `leased`."""

    def leased(self, entry: Entry) -> None:
        """It has gone out."""

    def released(self, entry: Entry) -> None:
        """Its lease is over."""

    def finished(self, entry: Entry) -> None:
        """It never goes out again."""


class UnorderedQueue:
    """First ready, first out."""

    def __init__(self) -> None:
        # A plain dict would look through its deleted front on every call.
        self._ready: OrderedDict[Entry, None] = OrderedDict()

    def add(self, entry: Entry) -> None:
        """See `Queue`."""
        if entry.state is State.READY:
            self._ready[entry] = None

    def first(self, count: int) -> list[Entry]:
        """See `Queue`."""
        return list(islice(self._ready, count))

    def leased(self, entry: Entry) -> None:
        """See `Queue`."""
        del self._ready[entry]

    def released(self, entry: Entry) -> None:
        """See `Queue`."""
        self._ready[entry] = None

    def finished(self, entry: Entry) -> None:
        """See `Queue`."""
        self._ready.pop(entry, None)


@dataclass(slots=True, eq=False)
class _Shard:
    unfinished: OrderedDict[Entry, None] = field(default_factory=OrderedDict)
    """In the order of publishing; only ever added to at the end."""
    out: int = 0
    """How many of them are leased."""
    listed: bool = False
    """Whether it stands among the open shards."""


class OrderedQueue:
    """The oldest first, from every shard of which nothing is out (protocol.md 6).

    "A shard yields nothing more until every message handed out from it is acked, or their NextConsumeTime passes and
    they come again." So leasing and releasing move nothing within a shard: it is either shut, or wholly ready.
    """

    def __init__(self) -> None:
        self._shards: dict[str, _Shard] = {}
        # A heap by the head's sequence. What it says may be out of date; it is checked when taken out.
        self._open: list[tuple[int, int, _Shard]] = []

    def add(self, entry: Entry) -> None:
        """See `Queue`."""
        shard = self._shards.setdefault(entry.message.shard, _Shard())
        shard.unfinished[entry] = None
        shard.out += entry.state is State.LEASED
        self._list(shard)

    def first(self, count: int) -> list[Entry]:
        """See `Queue`."""
        # The oldest `count` messages lie in the `count` shards whose heads are oldest.
        shards: list[_Shard] = []
        while self._open and len(shards) < count:
            sequence, _, shard = heapq.heappop(self._open)
            shard.listed = False
            if shard.out or not shard.unfinished:
                continue
            if next(iter(shard.unfinished)).sequence == sequence:
                shards.append(shard)
            else:
                self._list(shard)
        merged = heapq.merge(*(shard.unfinished for shard in shards), key=lambda entry: entry.sequence)
        entries = list(islice(merged, count))
        for shard in shards:
            self._list(shard)
        return entries

    def leased(self, entry: Entry) -> None:
        """See `Queue`."""
        self._shards[entry.message.shard].out += 1

    def released(self, entry: Entry) -> None:
        """See `Queue`."""
        shard = self._shards[entry.message.shard]
        shard.out -= 1
        self._list(shard)

    def finished(self, entry: Entry) -> None:
        """See `Queue`."""
        shard = self._shards[entry.message.shard]
        del shard.unfinished[entry]
        if not shard.unfinished:
            del self._shards[entry.message.shard]

    def _list(self, shard: _Shard) -> None:
        if shard.unfinished and not shard.out and not shard.listed:
            shard.listed = True
            heapq.heappush(self._open, (next(iter(shard.unfinished)).sequence, id(shard), shard))
