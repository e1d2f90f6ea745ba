"""CPU time a message: between two moments in steady state, over the messages that were acked between them."""

import json
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import pairwise
from statistics import median
from typing import Any

from bench import programs
from bench.programs import BenchError, Program, Service
from bench.source import Counts
from bench.topics import Topic

FIRST_ACK_SECONDS = 60.0
"""How long a program may take to its first ack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened between two moments."""

    acked: int
    calls: int
    """Polls and acks."""
    seconds: float
    cpu_seconds: float
    """Of the program under test."""
    source_cpu_seconds: float

    @property
    def microseconds_a_message(self) -> float:
        """CPU time."""
        return self.cpu_seconds / self.acked * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Some windows of one program."""

    windows: tuple[Window, ...]
    peak_bytes: int
    """What was resident at most, until the end of the last."""
    workers: int | None = None
    """How many the program had, where that was chosen."""

    def with_more(self, later: "Cost") -> "Cost":
        """The same program, measured once more."""
        peak = max(self.peak_bytes, later.peak_bytes)
        return Cost(windows=self.windows + later.windows, peak_bytes=peak, workers=self.workers)

    @property
    def microseconds(self) -> float:
        """CPU time a message: the median of the windows."""
        return median(window.microseconds_a_message for window in self.windows)

    @property
    def spread(self) -> float:
        """How far the windows are apart, as a part of their median."""
        costs = [window.microseconds_a_message for window in self.windows]
        return (max(costs) - min(costs)) / self.microseconds

    @property
    def messages_a_second(self) -> float:
        """The median of the windows."""
        return median(window.acked / window.seconds for window in self.windows)

    @property
    def busy(self) -> float:
        """How many cores' time it used: near 1 means that its core was the limit."""
        return sum(window.cpu_seconds for window in self.windows) / sum(window.seconds for window in self.windows)

    @property
    def calls_a_message(self) -> float:
        """Calls of the RocketMQ API, polls and acks."""
        return sum(window.calls for window in self.windows) / sum(window.acked for window in self.windows)

    @property
    def source_microseconds(self) -> float:
        """What the source spent on a message."""
        return sum(window.source_cpu_seconds for window in self.windows) / sum(window.acked for window in self.windows) * 1e6


@dataclass(frozen=True, slots=True)
class Source:
    """`bench.source`, running."""

    service: Service

    @property
    def endpoint(self) -> str:
        """As the bridge and the SDKs take it."""
        return f"http://127.0.0.1:{self.service.port}"

    def counts(self, topic: Topic) -> Counts:
        """What has happened on a topic."""
        return Counts(**self._ask("counts", topic))

    def first_poll_at(self, topic: Topic) -> float:
        """Wait for it; on the monotonic clock, in seconds."""
        give_up = time.monotonic() + FIRST_ACK_SECONDS
        while (at := self.counts(topic).first_poll_at) is None:
            if time.monotonic() > give_up:
                raise BenchError(f"{topic}: nobody polled within {FIRST_ACK_SECONDS:g} s")
            time.sleep(0.02)
        return at

    def latencies(self, topic: Topic) -> list[tuple[str, float, float]]:
        """End a topic with a pace. Of each message that was acked: its id, when it was published and acked, in seconds."""
        return [(name, published_at, acked_at) for name, published_at, acked_at in self._ask("latencies", topic)]

    def _ask(self, what: str, topic: Topic) -> Any:
        connection = HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        try:
            connection.request("GET", f"/{what}/{topic}")
            return json.load(connection.getresponse())
        finally:
            connection.close()


def cost(
    program: Program,
    source: Source,
    topic: Topic,
    *,
    warm_up_seconds: float,
    window_seconds: float,
    windows: int,
    workers: int | None = None,
) -> Cost:
    """Watch a program that has been started. Raises BenchError when it ends, or acks nothing."""
    wait_for_acks(program, source, topic)
    time.sleep(warm_up_seconds)
    marks = [_mark(program, source, topic)]
    for _ in range(windows):
        time.sleep(window_seconds)
        program.check()
        marks.append(_mark(program, source, topic))
    seen = tuple(_between(before, after) for before, after in pairwise(marks))
    if not all(window.acked for window in seen):
        raise BenchError(f"{program.name}: in a window of {window_seconds:g} s nothing was acked")
    return Cost(windows=seen, peak_bytes=program.peak_bytes(), workers=workers)


def wait_for_acks(program: Program, source: Source, topic: Topic) -> None:
    """Until the first. Raises BenchError when there is none, or the program ends."""
    give_up = time.monotonic() + FIRST_ACK_SECONDS
    while not source.counts(topic).acked:
        program.check()
        if time.monotonic() > give_up:
            raise BenchError(f"{program.name}: nothing was acked within {FIRST_ACK_SECONDS:g} s")
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class _Mark:
    at: float
    counts: Counts
    cpu_seconds: float
    source_cpu_seconds: float


def _mark(program: Program, source: Source, topic: Topic) -> _Mark:
    counts = source.counts(topic)
    return _Mark(time.monotonic(), counts, program.cpu_seconds(), programs.cpu_seconds(source.service.pid))


def _between(before: _Mark, after: _Mark) -> Window:
    return Window(
        acked=after.counts.acked - before.counts.acked,
        calls=after.counts.calls - before.counts.calls,
        seconds=after.at - before.at,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        source_cpu_seconds=after.source_cpu_seconds - before.source_cpu_seconds,
    )
