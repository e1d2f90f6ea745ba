"""What happened in a world, entry by entry: the invariants watch it, and a person can read it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from simulation.plan import Fault, Incident, Message


class Delivered(NamedTuple):
    """One delivery of one message: the so-manieth, from 1."""

    message: Message
    times: int

    @property
    def identity(self) -> str:
        """What the process knows it by: where the id can't be read, it is another message, as far as one can tell."""
        return self.message.identity(self.times)

    def __str__(self) -> str:
        return f"{self.message}#{self.times}"


class Letter(NamedTuple):
    """What a dead letter says of itself."""

    reason: str
    sinks: tuple[str, ...]
    """Those that have refused it."""


def in_words(deliveries: Iterable[Delivered]) -> str:
    """As the story tells them."""
    return " ".join(map(str, deliveries))


class Published(NamedTuple):
    message: Message


class Incided(NamedTuple):
    """An incident of the plan begins."""

    incident: Incident


class Cleared(NamedTuple):
    """The faults have ended."""


class Started(NamedTuple):
    life: str


class Died(NamedTuple):
    life: str


class Froze(NamedTuple):
    life: str


class Thawed(NamedTuple):
    life: str


class Draining(NamedTuple):
    """It was told to end."""

    life: str
    grace: float
    """In seconds."""


class Ended(NamedTuple):
    life: str
    how: str
    """Empty when it has drained."""


class Polling(NamedTuple):
    life: str
    call: int
    most: int
    wait: int


class HandedOut(NamedTuple):
    """By the broker, whoever may get it."""

    life: str
    delivered: Delivered
    lease_end: float


class Polled(NamedTuple):
    """The answer to a poll is there."""

    life: str
    call: int
    deliveries: Sequence[Delivered]


class PollFailed(NamedTuple):
    life: str
    call: int
    problem: str


class Sent(NamedTuple):
    """Handed to a sink."""

    life: str
    sink: str
    call: int
    deliveries: Sequence[Delivered]
    deadline: float
    letters: Sequence[Letter | None]
    """For each, what it says as a dead letter; None where it isn't one."""


class Written(NamedTuple):
    """Durable at the other side of a sink."""

    sink: str
    call: int
    delivered: Delivered


class Told(NamedTuple):
    """What a sink said of an event."""

    life: str
    sink: str
    call: int
    delivered: Delivered
    outcome: str
    """confirmed, refused, again, cut off, or unknown: another follows this one."""
    fault: Fault | None


class SinkDown(NamedTuple):
    """A sink said that it is down, and took nothing."""

    life: str
    sink: str
    call: int | None
    """None for a probe, or for opening it."""


class Opening(NamedTuple):
    life: str
    sink: str


class OpenCancelled(NamedTuple):
    """It took too long."""

    life: str
    sink: str


class Opened(NamedTuple):
    life: str
    sink: str


class SendCancelled(NamedTuple):
    life: str
    sink: str
    call: int


class Shared(NamedTuple):
    """A process has written to the shared ledger which sinks are done with a message; none clears it."""

    life: str
    message: Message
    sinks: Sequence[str]


class Recalled(NamedTuple):
    """A process has read there which sinks are done with a message."""

    life: str
    message: Message
    identity: str
    sinks: Sequence[str]


class Acking(NamedTuple):
    life: str
    call: int
    deliveries: Sequence[Delivered]


class AckTook(NamedTuple):
    """An ack took effect at the broker, or found nothing to settle."""

    call: int
    delivered: Delivered
    refusal: str | None


class AckAnswered(NamedTuple):
    life: str
    call: int
    problem: str | None
    """Why no answer came."""


class Logged(NamedTuple):
    """What a process has logged."""

    level: str
    text: str


class Faulted(NamedTuple):
    """Something between us and the broker went wrong."""

    life: str
    call: int
    fault: Fault


class Violation(NamedTuple):
    """A promise was broken."""

    promise: str
    text: str


class Story:
    """Takes entries, shows each to whoever watches its kind, and stops at the first violation."""

    def __init__(self, now: Callable[[], float], *, watchers: Sequence[object] = ()) -> None:
        self._now = now
        self.begun = now()
        self.entries: list[tuple[float, tuple[Any, ...]]] = []
        self.violation: Violation | None = None
        self.over = False
        self._watching: dict[type, list[Callable[[float, Any], str | None]]] = {}
        for watcher in watchers:
            for kind in _KINDS:
                method = getattr(watcher, f"on_{kind.__name__.lower()}", None)
                if method is not None:
                    self._watching.setdefault(kind, []).append(method)

    def tell(self, entry: tuple[Any, ...]) -> None:
        """It has just happened."""
        if self.over:
            return
        at = self._now() - self.begun
        self.entries.append((at, entry))
        for watch in self._watching.get(type(entry), ()):
            broken = watch(at, entry)
            if broken is not None:
                self.violate(type(watch.__self__).__name__, broken)  # type: ignore[attr-defined] # it is a bound method

    def violate(self, promise: str, text: str) -> None:
        """A promise was broken; the first counts."""
        if self.violation is None and not self.over:
            self.violation = Violation(promise, text)
            self.entries.append((self._now() - self.begun, self.violation))

    def lines(self) -> list[str]:
        """The story, for a person."""
        return [f"{at:10.3f}  {_words(entry)}" for at, entry in self.entries]


_KINDS = (
    *(Published, Incided, Cleared, Started, Died, Froze, Thawed, Draining, Ended, Polling, HandedOut, Polled, PollFailed),
    *(
        Sent,
        Written,
        Told,
        SinkDown,
        Opening,
        OpenCancelled,
        Opened,
        SendCancelled,
        Shared,
        Recalled,
        Acking,
        AckTook,
        AckAnswered,
        Faulted,
    ),
)


def _words(entry: tuple[Any, ...]) -> str:
    fields: tuple[str, ...] = getattr(entry, "_fields", ())
    told = (f"{name}={_word(value)}" for name, value in zip(fields, entry, strict=True) if value is not None)
    return f"{type(entry).__name__:13} {' '.join(told)}"


def _word(value: object) -> str:
    if isinstance(value, Delivered):
        return str(value)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return "[" + " ".join(_word(one) for one in value if one is not None) + "]"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Fault):
        return repr(value.value)
    return str(value)
