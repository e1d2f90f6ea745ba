"""What the bridge needs besides CPU time a message: memory, time to start, and what it costs when nothing happens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from bench.candidates import Start, to_kafka
from bench.measuring import wait_for_acks
from bench.programs import OTHER_CORE, BenchError, Program
from bench.surroundings import Surroundings
from bench.topics import Topic

LARGE_BODY_BYTES = 4 * 1024 * 1024
"""The largest that is legal (protocol.md 9)."""
LARGE_SECONDS = 15.0
SETTLING_SECONDS = 3.0
STARTS = 5
IDLE_SECONDS = 60.0
STALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Started:
    """What it takes from exec to the first poll's arrival."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Growth:
    """What is resident in the course of many messages."""

    messages: int
    early_bytes: int
    """After a tenth of them."""
    end_bytes: int


@dataclass(frozen=True, slots=True)
class Idle:
    """What a bridge without messages uses."""

    calls_a_minute: float
    cpu_seconds_an_hour: float


def idle_bytes(around: Surroundings) -> int:
    """What is resident, into Kafka, when there is nothing to do."""
    topic = around.topic(pace=0)
    with to_kafka()(around, topic, None) as program:
        around.source.first_poll_at(topic)
        time.sleep(SETTLING_SECONDS)
        program.check()
        return program.resident_bytes()


def large_peak_bytes(around: Surroundings, kind: str) -> int:
    """What is resident at most while bodies of 4 MB go into Kafka."""
    topic = around.topic(kind, LARGE_BODY_BYTES)
    with to_kafka()(around, topic, None) as program:
        wait_for_acks(program, around.source, topic)
        time.sleep(LARGE_SECONDS)
        program.check()
        return program.peak_bytes()


def growth(around: Surroundings, messages: int) -> Growth:
    """Of a bridge into Kafka; small bodies, so that they are soon through."""
    topic = around.topic("json", 100)
    with to_kafka()(around, topic, None) as program:
        _wait_for(messages // 10, program, around, topic)
        early_bytes = program.resident_bytes()
        _wait_for(messages, program, around, topic)
        return Growth(messages, early_bytes, program.resident_bytes())


def _wait_for(messages: int, program: Program, around: Surroundings, topic: Topic) -> None:
    acked, seen_at = 0, time.monotonic()
    while (now := around.source.counts(topic).acked) < messages:
        program.check()
        if now > acked:
            acked, seen_at = now, time.monotonic()
        elif time.monotonic() > seen_at + STALL_SECONDS:
            raise BenchError(f"{program.name}: nothing was acked for {STALL_SECONDS:g} s")
        time.sleep(0.5)


def start_of(around: Surroundings, start: Start) -> Started:
    """The medians of some starts."""
    starts = [_start(around, start) for _ in range(STARTS)]
    return Started(median(one.seconds for one in starts), median(one.cpu_seconds for one in starts))


def _start(around: Surroundings, start: Start) -> Started:
    topic = around.topic(pace=0)
    with start(around, topic, None) as program:
        first_poll_at = around.source.first_poll_at(topic)
        return Started(first_poll_at - program.started_at, program.cpu_seconds())


class Watched:
    """A bridge without messages, beside everything else, for as long as that takes."""

    def __init__(self, program: Program, around: Surroundings, topic: Topic) -> None:
        around.source.first_poll_at(topic)
        time.sleep(SETTLING_SECONDS)
        self._program, self._source, self._topic = program, around.source, topic
        self._since, self._calls, self._cpu_seconds = self._now()

    def _now(self) -> tuple[float, int, float]:
        return time.monotonic(), self._source.counts(self._topic).calls, self._program.cpu_seconds()

    def idle(self) -> Idle:
        """What it has used; waits until it was watched for a minute."""
        time.sleep(max(0.0, self._since + IDLE_SECONDS - time.monotonic()))
        self._program.check()
        until, calls, cpu_seconds = self._now()
        seconds = until - self._since
        return Idle((calls - self._calls) / seconds * 60, (cpu_seconds - self._cpu_seconds) / seconds * 3600)


@contextmanager
def idling(around: Surroundings) -> Iterator[Watched]:
    """A bridge without messages on the other core, into Kafka."""
    topic = around.topic(pace=0)
    with to_kafka(cores=[OTHER_CORE], name="idle")(around, topic, None) as program:
        yield Watched(program, around, topic)
