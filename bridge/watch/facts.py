"""The facts that the loops publish as they go, and that everybody who looks on reads. Publishing one costs next to nothing.

They are published in one thread and read in another, without a lock: a number is there whole, and whoever reads a dict takes a
copy of it first, which the interpreter does in one step.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import overload

import structlog

from bridge.watch.consumer import Consumer
from bridge.watch.histogram import Histogram
from bridge.watch.history import History, Sample, Throughput

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

    Instants are seconds since the epoch; how long something lasts is told by `monotonic`, as the other clock may be set.
    """

    def __init__(
        self, name: str, *, wall_clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.status = Status.STARTING
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._changed_at = monotonic()
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
        self.last_ok = self._wall_clock()
        if self.status is Status.OK:
            return
        if self.status is Status.STARTING:
            log.info("connected", component=self.name)
        elif self._failure_logged:
            log.warning("recovered", component=self.name, after_seconds=self._lasts_seconds, errors=self.error_count)
        self._failure_logged = False
        self._change(Status.OK)
        self.error_count = 0

    def fails(self, error: str) -> None:
        """It has just failed, and `error` says what to do about it."""
        self.last_error, self.last_error_at = error, self._wall_clock()
        if self.status is not Status.FAILING:
            self._change(Status.FAILING)
        self.error_count += 1
        now = self._monotonic()
        if now - self._logged_at >= (REPEAT_SECONDS if self._failure_logged else FLAPPING_SECONDS):
            self._failure_logged = True
            lasts = self._lasts_seconds
            log.error("failing", component=self.name, error=error, errors=self.error_count, failing_for_seconds=lasts)
            self._logged_at = now

    def _change(self, status: Status) -> None:
        self.status, self.since, self._changed_at = status, self._wall_clock(), self._monotonic()

    @property
    def _lasts_seconds(self) -> float:
        return round(self._monotonic() - self._changed_at, 1)


class SinkComponent(Component):
    """A sink, and what has gone through it."""

    def __init__(
        self, name: str, *, wall_clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name, wall_clock=wall_clock, monotonic=monotonic)
        self.confirmed = 0
        """Events that it has confirmed, however late."""
        self.send_seconds = Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
        """How long each `send` took, of one event or of many."""


@overload
def instant(seconds: float) -> str: ...


@overload
def instant(seconds: float | None) -> str | None: ...


def instant(seconds: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339, to the second; None stays None."""
    return None if seconds is None else _rfc3339(math.floor(seconds))


@lru_cache(maxsize=256)  # a report names a score of them, mostly the same ones as the report before
def _rfc3339(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


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
    ack_errors: int = 0
    """Ack calls without an answer that says what became of each message; each is tried again while the lease lasts."""
    delivered_units: int = 0
    """What the service bills for the messages it has delivered, as `bridge.rocketmq.billing.units` estimates it."""
    received: int = 0
    damaged: int = 0
    mismatched: int = 0
    """Delivered although the MD5 of their body is not the one that the service sent."""
    confirmed: int = 0
    refused: int = 0
    retried: int = 0
    """Sends of events beyond the first."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """Confirmed by the dead-letter sink, by reason."""
    trials: int = 0
    """Polled one at a time while a sink was down, to find out whether it is up again."""
    remembered: int = 0
    """Redeliveries that were acked without being sent, as the sink had confirmed them before."""
    ledger: Counter[str] = field(default_factory=Counter)
    """The shared ledger: `lookups`, lookups that were `skipped` as it was gone, messages that were `hits`, `failures` of
    calls, and entries that were `dropped`."""
    acked: int = 0
    not_acked: Counter[str] = field(default_factory=Counter)
    """Confirmed and yet not acked, by the broker's code, or `expired`, or `shutdown`."""
    left: Counter[str] = field(default_factory=Counter)
    """Left to the broker without having been confirmed, by reason: it delivers them again when their lease ends."""

    @property
    def calls(self) -> dict[str, int]:
        """API calls by kind: what was tried, though no connection may have come about; one that was made again counts once."""
        return {"consume": self.polls.total(), "ack": self.ack_calls}

    @property
    def billed_units(self) -> int:
        """An estimate of what the service bills: what it has delivered, and one for each poll without (protocol.md 2.2, 9).

        Polls that have failed count, though they may not be billed; acks don't, as they are not said to be. Deliveries whose
        answer was lost are billed, and not known here.
        """
        return self.delivered_units + self.polls.total() - self.polls["messages"]

    @property
    def calls_per_message(self) -> float | None:
        """API calls for each message that was acked; None before the first."""
        return sum(self.calls.values()) / self.acked if self.acked else None


class Facts:
    """All of it."""

    offline_fails_health = False
    """Whether `/healthz` fails while the management API says that the group is offline."""
    tracing: Component | None = None
    """How exporting spans goes, where there are any."""
    _mismatch_logged_at = -math.inf
    on_left: Callable[[str, str], None] | None = None
    """Told of each message that is left to the broker: its receipt, and why."""

    def __init__(
        self,
        sinks: Iterable[str],
        *,
        dead_letters: bool = False,
        shared_ledger: bool = False,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall_clock = wall_clock
        self.monotonic = monotonic
        """The clock of the event loop, as far as any thread can read it."""
        self.started_at = wall_clock()
        self.phase = Phase.STARTING
        self.rocketmq = self.component("rocketmq")
        self.acks = self.component("rocketmq acks")
        clocks = {"wall_clock": wall_clock, "monotonic": monotonic}
        self.sinks = {name: SinkComponent(f"sink {name}", **clocks) for name in sinks}
        self.dead_letter = SinkComponent("dead_letter", **clocks) if dead_letters else None
        self.ledger = self.component("ledger") if shared_ledger else None
        self.credentials: Component | None = None
        """How looking for new credentials goes, where there may be new ones."""
        self.credentials_expire_at: Callable[[], float | None] = lambda: None
        """When those in force expire, in seconds since the epoch; None when they don't, or nobody has said when."""
        self.management: Component | None = None
        """How asking the management API goes, where it is asked."""
        self.consumer = Consumer()
        """What the management API says; replaced as a whole."""
        self.counts = Counts()
        self.pollers = 0
        """How many pollers there are: one when idle."""
        self.paused: str | None = None
        """Why nothing is polled on purpose; None when polls are made."""
        self.short_polls: str | None = None
        """What is wrong with long polls, in words; None while the broker holds them."""
        self.beside = 0
        """Events that are parked, or whose answer from the sink is still out."""
        self.polls_cut = 0
        """Polls that we let go of when shutting down."""
        self.leases: dict[str, float] = {}
        """When the leases in hand end, on the event loop's clock, by receipt. Whoever acks or leaves a message takes its lease
        out; one that has ended is out anyway."""
        self.poll_seconds = Histogram(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 35)
        """How long each poll took that was answered."""
        self.latency_seconds = Histogram(
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200, 259200
        )
        """From the publishing of a message to its confirmation by all sinks."""
        self.ack_slack_seconds = Histogram(1, 2.5, 5, 10, 20, 30, 45, 60, 120, 180, 240, 300)
        """How much of the shortest lease of each ack was left when the ack was answered."""
        self.loop_beats = 0
        """Grows for as long as the event loop turns."""
        self.loop_lag_seconds = Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
        """By how much the event loop was late for each beat."""
        self.loop_stuck_seconds = 0.0
        """For how long the event loop hasn't turned, as far as is seen from another thread."""
        self.history = History()
        self.lease_seconds: float | None = None
        """How long the last delivery was ours when it came."""
        self.left_until: float | None = None
        """When the last message that was left to the broker comes again at the latest, in seconds since the epoch."""

    def component(self, name: str) -> Component:
        """One more that can be up or down, by the same clocks."""
        return Component(name, wall_clock=self.wall_clock, monotonic=self.monotonic)

    @property
    def components(self) -> list[Component]:
        """Everything that can be up or down."""
        optional = (self.dead_letter, self.ledger, self.credentials, self.management, self.tracing)
        return [self.rocketmq, self.acks, *self.sinks.values(), *(component for component in optional if component)]

    @property
    def lease_ends(self) -> list[float]:
        """When each of the leases in hand ends, on the event loop's clock."""
        now = self.monotonic()
        return [end for end in list(self.leases.values()) if end > now]

    def forget_ended_leases(self) -> None:
        """Take out the leases that nobody took out, as their messages were given up when they had ended."""
        now = self.monotonic()
        for receipt in [receipt for receipt, end in self.leases.items() if end <= now]:
            del self.leases[receipt]

    def sample(self) -> Sample:
        """What the history keeps, as it is now."""
        (latencies, latency_seconds), backlog = self.latency_seconds.copy(), self.consumer.backlog
        return Sample(
            at=self.monotonic(),
            received=self.counts.received,
            confirmed=self.counts.confirmed,
            acked=self.counts.acked,
            latencies=sum(latencies),
            latency_seconds=latency_seconds,
            in_flight=len(self.lease_ends),
            backlog=backlog.messages if backlog else None,
        )

    @property
    def throughput(self) -> Throughput | None:
        """How much has gone through lately; None in the first moments."""
        return self.history.throughput(at=self.monotonic(), received=self.counts.received, acked=self.counts.acked)

    def body_differs(self, message_id: str) -> None:
        """The MD5 of a body is not the one that the service sent: logged once a minute at most, as it may be so of all."""
        self.counts.mismatched += 1
        if self.monotonic() >= self._mismatch_logged_at + REPEAT_SECONDS:
            self._mismatch_logged_at = self.monotonic()
            log.warning("body with another MD5 than sent", message_id=message_id, messages=self.counts.mismatched)

    def left(self, why: str, *, receipt: str, in_seconds: float) -> None:
        """A message was left to the broker, which delivers it again in so many seconds."""
        self.counts.left[why] += 1
        if self.on_left:
            self.on_left(receipt, why)
        self._comes_again(in_seconds)

    def not_acked(self, code: str, *, in_seconds: float) -> None:
        """A message was confirmed and yet not acked; the broker delivers it again in so many seconds."""
        self.counts.not_acked[code] += 1
        self._comes_again(in_seconds)

    def _comes_again(self, in_seconds: float) -> None:
        self.left_until = max(self.left_until or 0.0, self.wall_clock() + in_seconds)
