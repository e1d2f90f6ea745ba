"""What the management API says of the consumer group: who is connected, and how far behind it is (protocol.md 8)."""

from dataclasses import dataclass
from enum import Enum


class ConsumerStatus(Enum):
    """How the group is, as the service sees it."""

    DISABLED = "disabled"
    """Nobody asks."""
    ONLINE = "online"
    NOT_LISTED = "not_listed"
    """The service says that nobody is online, and our own polls succeed: perhaps it never lists consumers over HTTP."""
    OFFLINE = "offline"
    """The service says that nobody is online, and our own polls don't succeed either."""
    UNKNOWN = "unknown"
    """There is no answer yet, or none that says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One client of the group. Texts are the service's, and empty where it gives none."""

    client_id: str
    address: str
    """An IP address, perhaps with a port."""
    language: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Who is connected. Nobody: the group is offline."""

    connections: tuple[Connection, ...] = ()
    """The first of them, `MAX_CONNECTIONS` at most."""
    number: int = 0
    """How many there are."""
    model: str | None = None
    """`CLUSTERING` or `BROADCASTING`, where the service says."""


MAX_CONNECTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How far the group is behind. None is what the service doesn't say."""

    online: bool | None
    messages: int | None
    """How many are not consumed yet, in all topics that the group subscribes to."""
    delay_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """All of it, as it was when it was asked for last."""

    status: ConsumerStatus = ConsumerStatus.DISABLED
    reason: str | None = None
    """Why the status is no better, or what else couldn't be found out; None when all is well."""
    checked_at: float | None = None
    """When the last answer came, or didn't, in seconds since the epoch."""
    listed: Listed | None = None
    """None when it is unknown."""
    backlog: Backlog | None = None
    """None when it is unknown."""
