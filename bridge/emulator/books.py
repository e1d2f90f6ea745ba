"""What has become of the messages: for tests and people."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBook:
    """Numbers of messages, as one group sees its topic."""

    ready: int
    leased: int
    acked: int
    dead_lettered: int
    expired: int
    """Never acked, and dropped at the end of their retention."""

    @property
    def backlog(self) -> int:
        """What is still to be consumed: ready and leased."""
        return self.ready + self.leased


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupIds:
    """The ids of the retained messages in each state, oldest first."""

    ready: list[str]
    leased: list[str]
    acked: list[str]
    dead_lettered: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicBook:
    """Numbers of messages in one topic."""

    instance: str | None
    topic: str
    published: int
    """Visible to groups, since the start; neither delayed nor half messages are among them yet."""
    delayed: int
    half: int
    groups: dict[str, GroupBook] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How far a group is behind in one topic, by the tags that it asks for. Instants are milliseconds since the epoch."""

    messages: int
    """Ready or leased: not acked yet."""
    oldest: int | None
    """When the oldest of them was published."""
    last_consumed: int | None
    """When the last published one of those that were acked, and are retained, was published."""


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of call, as it is counted (and, by the real service, billed)."""

    kind: str
    """`publish`, `consume`, `consume_half`, `ack`, `commit` or `rollback`."""
    instance: str | None
    topic: str
    group: str | None
    """None for `publish`."""
