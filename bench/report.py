"""The figures of one run, and how they compare."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.latency import Percentiles
from bench.measuring import Cost
from bench.resources import Growth, Idle, Started


@dataclass
class Report:
    """Whatever was measured; what wasn't is absent."""

    costs: dict[str, Cost] = field(default_factory=dict)
    """Of the candidates by name, with JSON of 1 KB."""
    bodies: dict[tuple[str, int], dict[str, Cost]] = field(default_factory=dict)
    """The same with other bodies, by their kind and size in bytes."""
    source: Cost | None = None
    """What the source gives when nothing is done with it: that it limits nobody."""
    latencies: dict[str, Percentiles] = field(default_factory=dict)
    """Of the floor, and of the bridge by its sink, the sink's own answer time taken off; in seconds."""
    idle: Idle | None = None
    idle_bytes: int | None = None
    large_peak_bytes: dict[str, int] = field(default_factory=dict)
    """With bodies of 4 MB, by their kind."""
    growth: Growth | None = None
    starts: dict[str, Started] = field(default_factory=dict)
    """By sink."""
    problems: list[str] = field(default_factory=list)
    """What could not be measured, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure beside what is asked of it."""

    what: str
    value: float
    unit: str = ""
    limit: float
    goal: float | None = None
    at_least: bool = False
    """Else at most."""

    @property
    def asked(self) -> str:
        """The limit, as people write it."""
        goal = "" if self.goal is None else f" (goal {self.goal:g})"
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{goal}"

    @property
    def verdict(self) -> str:
        """Whether it is met."""
        if self.goal is not None and self._meets(self.goal):
            return "goal met"
        return "met" if self._meets(self.limit) else "**missed**"

    def _meets(self, bound: float) -> bool:
        return self.value >= bound if self.at_least else self.value <= bound


def comparisons(report: Report) -> Iterator[Comparison]:
    """Every figure that something is asked of, as far as it was measured."""
    micros = {name: cost.microseconds for name, cost in report.costs.items()}
    for what, one, other, limit, goal, at_least in _RATIOS:
        if one in micros and other in micros:
            yield Comparison(what=what, value=micros[one] / micros[other], limit=limit, goal=goal, at_least=at_least)
    if "webhook-single" in micros:
        yield Comparison(
            what="single webhook events a second a core",
            value=1e6 / micros["webhook-single"],
            unit="/s",
            limit=9000,
            at_least=True,
        )
    floor = report.latencies.get("floor")
    for sink, percentiles in report.latencies.items():
        if floor and sink != "floor":
            added = percentiles.over(floor)
            yield Comparison(what=f"latency added, to {sink}, p99", value=added.p99 * 1e3, unit=" ms", limit=5)
            yield Comparison(what=f"latency added, to {sink}, p50", value=added.p50 * 1e3, unit=" ms", limit=1.5)
    if report.idle_bytes is not None:
        yield Comparison(what="memory idle, with Kafka", value=report.idle_bytes / 1e6, unit=" MB", limit=80)
    if "kafka" in report.costs:
        peak = report.costs["kafka"].peak_bytes
        yield Comparison(what="memory at full load into Kafka", value=peak / 1e6, unit=" MB", limit=160)
    for sink, started in report.starts.items():
        yield Comparison(what=f"exec to first poll, {sink}", value=started.seconds, unit=" s", limit=0.7)


_RATIOS: list[tuple[str, str, str, float, float | None, bool]] = [
    ("bridge to Kafka / floor", "kafka", "floor", 3.0, 2.7, False),
    ("bridge to nothing / floor", "nothing", "floor", 2.4, 2.2, False),
    ("Go peer / bridge to Kafka", "go", "kafka", 1.1, 1.2, True),
    ("official Java SDK / bridge to Kafka", "java", "kafka", 2.5, None, True),
    ("official Python SDK / bridge to Kafka", "python", "kafka", 6.0, 7.0, True),
    ("official Node.js SDK / bridge to Kafka", "node", "kafka", 1.0, None, True),
    ("webhook batches / Kafka", "webhook-batch", "kafka", 1.25, None, False),
    ("two processes / one, into Kafka", "kafka-two", "kafka", 1.1, None, False),
]
"""What it is, the one, over the other, what is asked, the goal, whether that is the least."""
