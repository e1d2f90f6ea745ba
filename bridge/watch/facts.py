"""The facts that the loops publish as they go, and that everybody who looks on reads. Publishing one costs next to nothing."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

REPEAT_SECONDS = 60.0
"""An error that goes on is logged when it begins, and from then on at most this often."""


FLAPPING_SECONDS = 10.0
"""A failure that begins sooner than this after the last line about one is logged only if it lasts."""


class Status(Enum):
    """How a component is."""

    STARTING = "starting"
    OK = "ok"
    FAILING = "failing"


class Component:
    """One thing that can be up or down: the broker's connection, a sink. Logs each change, and no repetition of an error.

    Instants are seconds since the epoch.
    """

    def __init__(self, name: str, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.status = Status.STARTING
        self._wall_clock = wall_clock
        self.since = wall_clock()
        self.last_ok: float | None = None
        self.last_error: str | None = None
        self.last_error_at: float | None = None
        self.error_count = 0
        """How often it has failed since it was last OK."""
        self._logged_at = -math.inf
        self._failure_logged = False

    @property
    def ok(self) -> bool:
        """Whether it worked the last time it was used."""
        return self.status is Status.OK

    def works(self) -> None:
        """It has just worked."""
        now = self._wall_clock()
        self.last_ok = now
        if self.status is Status.OK:
            return
        if self.status is Status.STARTING:
            log.info("connected", component=self.name)
        elif self._failure_logged:
            log.warning("recovered", component=self.name, after_seconds=round(now - self.since, 1), errors=self.error_count)
        self._failure_logged = False
        self.status, self.since, self.error_count = Status.OK, now, 0

    def fails(self, error: str) -> None:
        """It has just failed, and `error` says what to do about it."""
        now = self._wall_clock()
        if self.status is not Status.FAILING:
            self.status, self.since = Status.FAILING, now
        self.last_error, self.last_error_at = error, now
        self.error_count += 1
        if now - self._logged_at >= (REPEAT_SECONDS if self._failure_logged else FLAPPING_SECONDS):
            self._failure_logged = True
            failing_for = round(now - self.since, 1)
            log.error("failing", component=self.name, error=error, errors=self.error_count, failing_for_seconds=failing_for)
            self._logged_at = now

    def report(self) -> dict[str, object]:
        """As JSON for a health report."""
        return {
            "status": self.status.value,
            "since": instant(self.since),
            "last_ok": instant(self.last_ok),
            "last_error": self.last_error,
            "last_error_at": instant(self.last_error_at),
        }


def instant(seconds: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339, to the second; None stays None."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Phase(Enum):
    """Where the process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


@dataclass(slots=True)
class Counts:
    """What has happened since the start, in messages where nothing else is said."""

    polls: Counter[str] = field(default_factory=Counter)
    """Polls by result: `messages`, `empty`, `early` (empty much sooner than asked), `error`, and `cut`: one whose answer we
    did not get, so that what it may have taken is lost to us until its lease ends."""
    ack_calls: int = 0
    received: int = 0
    damaged: int = 0
    confirmed: int = 0
    refused: int = 0
    retried: int = 0
    """Sends of events beyond the first."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """Confirmed by the dead-letter sink, by reason."""
    remembered: int = 0
    """Redeliveries that were acked without being sent, as the sink had confirmed them before."""
    acked: int = 0
    not_acked: Counter[str] = field(default_factory=Counter)
    """Confirmed and yet not acked, by the broker's code, or `expired`, or `shutdown`."""
    left: Counter[str] = field(default_factory=Counter)
    """Left to the broker without having been confirmed, by reason: it delivers them again when their lease ends."""


class Facts:
    """All of it."""

    def __init__(
        self, sinks: Iterable[str], *, dead_letters: bool = False, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.wall_clock = wall_clock
        self.started_at = wall_clock()
        self.phase = Phase.STARTING
        self.rocketmq = Component("rocketmq", wall_clock=wall_clock)
        self.acks = Component("rocketmq acks", wall_clock=wall_clock)
        self.sinks = {name: Component(f"sink {name}", wall_clock=wall_clock) for name in sinks}
        self.dead_letter = Component("dead_letter", wall_clock=wall_clock) if dead_letters else None
        self.counts = Counts()
        self.pollers = 0
        """How many pollers there are: one when idle."""
        self.paused: str | None = None
        """Why nothing is polled on purpose; None when polls are made."""
        self.beside = 0
        """Events that are parked, or whose answer from the sink is still out."""
        self.polls_cut = 0
        """Polls that we let go of when shutting down."""
        self.lease_seconds: float | None = None
        """How long the last delivery was ours when it came."""
        self.left_until: float | None = None
        """When the last message that was left to the broker comes again at the latest, in seconds since the epoch."""

    @property
    def components(self) -> list[Component]:
        """Everything that can be up or down."""
        return [self.rocketmq, self.acks, *self.sinks.values(), *([self.dead_letter] if self.dead_letter else [])]

    def left(self, why: str, *, in_seconds: float) -> None:
        """A message was left to the broker, which delivers it again in so many seconds."""
        self.counts.left[why] += 1
        self.left_until = max(self.left_until or 0.0, self.wall_clock() + in_seconds)
