"""What happened in a round: written while it runs, read when the books are balanced. Instants are seconds since the epoch."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where a message stands in its topic."""

    shard: str
    number: int
    """From 0 on, within the shard."""


class Copy(NamedTuple):
    """A message as it stands at a sink, or has reached it."""

    message_id: str
    at: float
    """From when on it was durable."""
    writer: str
    """The process that sent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A misfortune that has come to pass."""

    victim: str
    """A process (`replica 1`), a server (`kafka`), a wire (`wire kafka`), the emulator or the receiver."""
    kind: str
    process: str = ""
    """Of a replica: the very process that it hit."""
    began: float
    ended: float
    """When all was well again; infinity while it isn't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A process that was told by SIGTERM to end."""

    process: str
    code: int
    seconds: float
    """How long that took."""


@dataclass(slots=True)
class Journal:
    """All of it; messages by their ids."""

    began: float = 0.0
    """When misfortunes could begin."""
    published: dict[str, Place] = field(default_factory=dict)
    delivered: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When the broker handed it out, each time."""
    acked: dict[str, float] = field(default_factory=dict)
    refused_acks: Counter[str] = field(default_factory=Counter)
    """Receipt handles that were not accepted, by the broker's code."""
    sinks: dict[str, list[Copy]] = field(default_factory=dict)
    """Every copy at each sink, in the order in which a reader of it would see them: of a shard at least."""
    happened: list[Happened] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each process last said of its messages (`/healthz`), by process."""
    faults: list[str] = field(default_factory=list)
    """What must never be, and was seen while it ran, in a sentence each."""
