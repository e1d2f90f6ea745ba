"""One run of the bench: what was chosen, one after the other, into a report."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product

from bench import latency, measuring, resources
from bench.candidates import CANDIDATES, drain, to_dev_null, to_kafka
from bench.measuring import Cost
from bench.programs import BenchError
from bench.report import Report
from bench.resources import Watched
from bench.surroundings import Surroundings
from bench.tables import cost_line
from bench.topics import KINDS, Topic

BODY_BYTES = (100, 1024, 16 * 1024)
OF_BODIES = ("floor", "nothing", "kafka")
"""What is measured with every body."""
AGAIN = ("kafka", "floor")
"""What is measured once more when the others are through, as a machine changes in the meantime."""
BESIDES = ("source", "idle", "bodies", "latency", "memory", "start")
"""What can be chosen besides the candidates."""
LONG = ("growth",)
"""What is measured only when it is chosen, as it takes many minutes."""
GROWTH_MESSAGES = 10_000_000
SHORT_SECONDS = 2.0
"""A window where one must do."""


class Run:
    """`chosen` are names of CANDIDATES, BESIDES and LONG; the candidates' bodies are of `kind`, and of so many bytes."""

    def __init__(
        self,
        stack: ExitStack,
        chosen: Sequence[str],
        *,
        kind: str,
        body_bytes: int,
        window_seconds: float,
        windows: int,
    ) -> None:
        self.report = Report()
        self._stack = stack
        self._around = Surroundings(stack)
        self._chosen = chosen
        self._kind = kind
        self._body_bytes = body_bytes
        self._window_seconds = window_seconds
        self._windows = windows
        self._watched: Watched | None = None

    def measure(self) -> None:
        """Everything that was chosen; what can't be measured is noted."""
        for what, measure in self._plan():
            try:
                measure()
            except BenchError as problem:
                self.report.problems.append(f"{what}: {problem}")
                say(f"{what}: not measured: {problem}")

    def _plan(self) -> Iterator[tuple[str, Callable[[], None]]]:
        candidates = [name for name in CANDIDATES if name in self._chosen]
        again = [name for name in AGAIN if name in candidates and len(candidates) > len(AGAIN)]
        besides: dict[str, list[tuple[str, Callable[[], None]]]] = {
            "source": [("the source alone", self._source)],
            "idle": [("idle", self._begin_idle)],  # it is watched beside all the others
            "candidates": [(name, partial(self._candidate, name)) for name in [*candidates, *again]],
            "latency": [(f"latency to {sink}", partial(self._latency, sink)) for sink in ("floor", *latency.SINKS)],
            "memory": [("memory", self._memory)],
            "start": [("start", self._start)],
            "growth": [("growth", self._growth)],
            "bodies": [
                (f"{name}, {kind} of {size} bytes", partial(self._body, name, kind, size))
                for kind, size, name in product(KINDS, BODY_BYTES, OF_BODIES)
            ],
        }
        for name, steps in besides.items():
            if name in self._chosen or name == "candidates":
                yield from steps
        if self._watched:
            yield "idle", partial(self._end_idle, self._watched)

    def _candidate(self, name: str) -> None:
        workers = self._best_workers(name)
        cost = self._cost(name, self._topic(), self._window_seconds, self._windows, workers)
        say(cost_line(CANDIDATES[name].title, cost))
        before = self.report.costs.get(name)
        self.report.costs[name] = before.with_more(cost) if before else cost

    def _best_workers(self, name: str) -> int | None:
        """With how many workers a message costs the candidate least; None where it has no choice."""
        costs: dict[int, float] = {}
        for workers in CANDIDATES[name].workers:
            cost = self._cost(name, self._topic(), SHORT_SECONDS, 1, workers)
            say(f"  {cost_line(name, cost)}")
            costs[workers] = cost.microseconds
        return min(costs, key=lambda workers: costs[workers], default=None)

    def _topic(self) -> Topic:
        return self._around.topic(self._kind, self._body_bytes)

    def _cost(self, name: str, topic: Topic, seconds: float, windows: int, workers: int | None = None) -> Cost:
        candidate = CANDIDATES[name]
        with candidate.start(self._around, topic, workers) as program:
            return measuring.cost(
                program,
                self._around.source,
                topic,
                warm_up_seconds=candidate.warm_up_seconds,
                window_seconds=seconds,
                windows=windows,
                workers=workers,
            )

    def _source(self) -> None:
        topic = self._topic()
        with drain(self._around, topic) as program:
            self.report.source = measuring.cost(
                program, self._around.source, topic, warm_up_seconds=1.0, window_seconds=SHORT_SECONDS, windows=1
            )
        say(cost_line("the source alone", self.report.source))

    def _body(self, name: str, kind: str, size: int) -> None:
        cost = self._cost(name, self._around.topic(kind, size), SHORT_SECONDS, 1)
        self.report.bodies.setdefault((kind, size), {})[name] = cost
        say(cost_line(f"{CANDIDATES[name].title}, {kind}, {size:,} bytes", cost))

    def _latency(self, sink: str) -> None:
        seconds = self._window_seconds * self._windows
        if sink == "floor":
            seen = latency.of_floor(self._around, seconds=seconds)
        else:
            seen = latency.of_bridge(self._around, sink, seconds=seconds)
        self.report.latencies[sink] = seen
        say(f"latency to {sink}: p50 {seen.p50 * 1e3:.2f} ms, p99 {seen.p99 * 1e3:.2f} ms, p99.9 {seen.p999 * 1e3:.2f} ms")

    def _memory(self) -> None:
        self.report.idle_bytes = resources.idle_bytes(self._around)
        say(f"memory idle: {self.report.idle_bytes / 1e6:.0f} MB")
        for kind in ("json", "quot"):
            peak = self.report.large_peak_bytes[kind] = resources.large_peak_bytes(self._around, kind)
            say(f"memory at most, {kind} of 4 MB: {peak / 1e6:.0f} MB")

    def _start(self) -> None:
        for sink, start in {"stdout": to_dev_null, "Kafka": to_kafka()}.items():
            took = self.report.starts[sink] = resources.start_of(self._around, start)
            say(f"exec to first poll, {sink}: {took.seconds:.3f} s, of which {took.cpu_seconds:.3f} s of CPU time")

    def _growth(self) -> None:
        seen = self.report.growth = resources.growth(self._around, GROWTH_MESSAGES)
        say(f"resident after {seen.messages:,} messages: {seen.end_bytes / 1e6:.1f} MB; {seen.early_bytes / 1e6:.1f} MB early")

    def _begin_idle(self) -> None:
        self._watched = self._stack.enter_context(resources.idling(self._around))

    def _end_idle(self, watched: Watched) -> None:
        idle = self.report.idle = watched.idle()
        say(f"idle: {idle.calls_a_minute:.2f} calls a minute, {idle.cpu_seconds_an_hour:.1f} s of CPU time an hour")


def say(line: str) -> None:
    """To whoever waits for the bench to end."""
    sys.stderr.write(f"{line}\n")
