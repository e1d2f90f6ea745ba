"""The seam out: what a sink is, what it promises, and how it is found.

Writing a sink
--------------
A sink is a class with a settings model and three methods, perhaps four. It is found by name through the entry-point group
`bridge.sinks`, and its settings are read from `BRIDGE_<NAME>__…`:

    class FileSettings(BaseModel):
        path: Path

    class FileSink(Sink):
        Settings = FileSettings
        def __init__(self, settings: FileSettings) -> None: ...

Retry, deadline, ordering, dead-lettering, the memory of what was confirmed, and metrics are the pipeline's. A sink says what
became of each event, and nothing else.

The contract
------------
- `open` is called once, before anything else, in the event loop. It raises SinkDownError for trouble that may pass (it is
  then called again, with growing pauses) and FixSettingsError for what only a person can mend.
- `send` is called with one or more events, and by several callers at once. It answers for each event, in order, with one of
  the four outcomes below. It hands nothing over to the other side that it has not begun with by `deadline`, an instant of the
  event loop's clock (`asyncio.get_running_loop().time()`), and answers by then. It is never cancelled. A caller that stops
  waiting does not stop an event that is on its way.
- Confirmed means durable at the other side, to the degree that the other side offers. When in doubt, it is not confirmed.
- Trouble that isn't about an event but about the sink is raised, as SinkDownError: no connection, TLS, not authorised. Nothing
  of that call then counts as confirmed, so what may have got through is better answered with `Unknown`.
- `probe`, where a sink has one, tells whether it is up without sending anything: it returns, or raises SinkDownError. It is
  called only while the sink counts as down. A sink that needs a setting for it, and has it not, returns: an event finds out.
- `close` is called once, after the last `send` has answered or been given up, and also when `open` never succeeded. It flushes
  what was handed over, and is bounded in time by itself: 3 seconds, also when the other side is frozen.
- In ordered mode `keep_order` is called once, before `open`. One `send` then holds at most one event of a shard, and the next
  of that shard follows only after the answer.

Every sink, yours as well as ours, passes the contract suite in `bridge.testing`.
"""

from abc import ABC, abstractmethod
from asyncio import Future, isfuture
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Final

from pydantic import BaseModel

from bridge.errors import FixSettingsError
from bridge.event import Event

ENTRY_POINTS = "bridge.sinks"
"""The entry-point group through which sinks are found."""

CONTRACT = 1
"""The version of the contract above; a sink says in `Sink.contract` for which one it was written."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Durable at the other side."""


@dataclass(frozen=True, slots=True)
class Refused:
    """For good: this event will never be taken as it is. It goes to the dead letters, or stays with the broker."""

    reason: str

    def __post_init__(self) -> None:
        """Raises TypeError where `reason` is no text: in the sink's own line, before anything is made of it."""
        _expect("reason", self.reason, isinstance(self.reason, str))


@dataclass(frozen=True, slots=True)
class Again:
    """Not taken, and nothing of it is on its way: try again, within the lease."""

    reason: str
    after: float | None = None
    """Seconds that the other side asks to be left alone, where it did."""

    def __post_init__(self) -> None:
        """Raises TypeError; see `Refused`."""
        _expect("reason", self.reason, isinstance(self.reason, str))
        _expect("after", self.after, self.after is None or isinstance(self.after, int | float))


@dataclass(frozen=True, slots=True)
class Unknown:
    """Handed over, and the answer is still out; `answer` will hold it: one of the other three outcomes."""

    answer: "Future[Confirmed | Refused | Again]"

    def __post_init__(self) -> None:
        """Raises TypeError; see `Refused`."""
        _expect("answer", self.answer, isfuture(self.answer))


def _expect(field: str, value: object, fits: bool) -> None:  # noqa: FBT001 - it is what this is about
    if not fits:
        raise TypeError(f"{field} of an outcome can't be of type {type(value).__name__}")


Outcome = Confirmed | Refused | Again | Unknown

CONFIRMED: Final = Confirmed()
"""The one instance that is needed."""


class Sink(ABC):
    """Where events go. The contract stands at the top of this module."""

    contract: ClassVar[int] = CONTRACT
    destination: ClassVar[tuple[str, ...]] = ()
    """The names of the settings that say where events go, such as a topic or a URL: dead letters need others."""
    Settings: ClassVar[type[BaseModel]]
    """The model of the sink's settings, read from `BRIDGE_<NAME>__…`; fields need descriptions, they are shown to people."""

    def __init__(self, settings: Any) -> None:
        """Keep the settings; nothing is opened, and no event loop runs yet."""
        self.settings = settings

    def keep_order(self) -> None:  # noqa: B027 - a sink that keeps the order of its calls leaves it out
        """The events of a shard must reach the other side in order. Raises FixSettingsError when the settings forbid that."""

    async def open(self) -> None:  # noqa: B027 - a sink without anything to open leaves it out
        """Get ready to send. Raises SinkDownError or FixSettingsError."""

    @abstractmethod
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """Hand the events over; tell by `deadline`, on the event loop's clock, what became of each. Raises SinkDownError."""

    async def close(self) -> None:  # noqa: B027 - as with `open`
        """Flush and let go, within a few seconds."""


class ProbedSink(Sink):
    """A sink that can tell whether it is up without sending anything."""

    @abstractmethod
    async def probe(self) -> None:
        """Return if the other side is up; raise SinkDownError if it isn't. Answers within a few seconds."""


def installed() -> dict[str, EntryPoint]:
    """Every sink that is installed, by name, sorted; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name)}


def find(name: str) -> type[Sink]:
    """The class of the sink of that name.

    Raises FixSettingsError for a name that nobody registered, a plugin that can't be imported, and one that isn't a sink of
    this version of the contract.
    """
    known = installed()
    entry = known.get(name)
    if entry is None:
        raise FixSettingsError(f"no sink is called {name!r}; installed are: {', '.join(known)}")
    package = entry.dist.name if entry.dist else entry.value
    try:
        sink = entry.load()
    except FixSettingsError:
        raise
    except Exception as problem:
        raise FixSettingsError(
            f"the sink {name!r} of the package {package} can't be imported: {type(problem).__name__}: {problem}"
        ) from problem
    if not (isinstance(sink, type) and issubclass(sink, Sink)):
        raise FixSettingsError(f"the sink {name!r} of the package {package} is no subclass of bridge.sinks.Sink")
    if sink.contract != CONTRACT:
        raise FixSettingsError(
            f"the sink {name!r} of the package {package} was written for version {sink.contract} of the sink contract, "
            f"and this bridge has version {CONTRACT}: install a release of {package} that fits"
        )
    return sink
