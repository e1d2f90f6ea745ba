"""The report as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.candidates import CANDIDATES
from bench.latency import MESSAGES_A_SECOND
from bench.measuring import Cost
from bench.report import Report, comparisons


def markdown(report: Report, machine: Mapping[str, str]) -> str:
    """The ratios first, then every figure behind them, then the machine."""
    return "\n".join(
        [
            "# What a message costs",
            "",
            "Written by `make bench`; how it is measured stands in [README.md](README.md). Where nothing else is said: CPU",
            "time a message, JSON of 1 KB, a topic of 4 partitions.",
            "",
            *_ratios(report),
            *_costs(report),
            *_bodies(report),
            *_latencies(report),
            *_resources(report),
            *_problems(report),
            *_section("The machine", _table(["", ""], machine.items())),
        ]
    )


def cost_line(title: str, cost: Cost) -> str:
    """A measurement, as it is shown while the bench runs."""
    workers = f", {cost.workers} workers" if cost.workers else ""
    spread = f"± {cost.spread / 2:.0%}" if len(cost.windows) > 1 else ""
    figures = f"{cost.microseconds:8.2f} µs {spread:6} {cost.messages_a_second:10,.0f}/s {cost.busy:5.0%} of a core"
    return f"{title + workers:58} {figures}"


def _ratios(report: Report) -> Iterator[str]:
    rows = [(c.what, f"{c.value:,.2f}{c.unit}", c.asked, c.verdict) for c in comparisons(report)]
    if rows:
        yield from _table(["", "measured", "asked", ""], rows)


def _costs(report: Report) -> Iterator[str]:
    rows = [
        (
            CANDIDATES[name].title + (f", {cost.workers} workers" if cost.workers else ""),
            f"{cost.microseconds:.1f}",
            f"± {cost.spread / 2:.0%}",
            f"{cost.messages_a_second:,.0f}",
            f"{cost.busy:.0%}",
            f"{cost.calls_a_message:.3f}",
            f"{cost.peak_bytes / 1e6:.0f}",
            f"{cost.source_microseconds:.1f}",
        )
        for name, cost in report.costs.items()
    ]
    header = ["", "µs a message", "spread", "messages/s", "cores used", "calls a message", "peak MB", "source, µs a message"]
    yield from _section("Every figure behind them", _table(header, rows))


def _bodies(report: Report) -> Iterator[str]:
    names = list(dict.fromkeys(name for costs in report.bodies.values() for name in costs))
    rows = [
        (f"{kind}, {size:,} bytes", *(f"{costs[name].microseconds:.1f}" if name in costs else "" for name in names))
        for (kind, size), costs in report.bodies.items()
    ]
    if rows:
        yield from _section("Other bodies, µs a message", _table(["", *(CANDIDATES[name].title for name in names)], rows))


def _latencies(report: Report) -> Iterator[str]:
    rows = [
        (
            "floor" if sink == "floor" else f"bridge to {sink}",
            *(f"{seconds * 1e3:.2f}" for seconds in (percentiles.p50, percentiles.p99, percentiles.p999)),
        )
        for sink, percentiles in report.latencies.items()
    ]
    if rows:
        title = f"From published to acked at {MESSAGES_A_SECOND:,} messages a second, without the sink's own answer time, in ms"
        yield from _section(title, _table(["", "p50", "p99", "p99.9"], rows))


def _resources(report: Report) -> Iterator[str]:
    peaks = report.large_peak_bytes.items()
    rows = [(f"peak memory, {kind} of 4 MB into Kafka", f"{peak / 1e6:.0f} MB") for kind, peak in peaks]
    for sink, started in report.starts.items():
        rows.append((f"CPU time from exec to first poll, {sink}", f"{started.cpu_seconds:.2f} s"))
    if report.source:
        rows.append(("what the source can give", f"{report.source.messages_a_second:,.0f} messages a second"))
    if report.growth:
        growth = report.growth
        rows.append(
            (
                f"resident after {growth.messages:,} messages into Kafka, and after a tenth of them",
                f"{growth.end_bytes / 1e6:.1f} MB, {growth.early_bytes / 1e6:.1f} MB",
            )
        )
    if report.idle:
        rows += [
            ("calls a minute of an idle bridge", f"{report.idle.calls_a_minute:.2f}"),
            ("CPU time of an idle bridge", f"{report.idle.cpu_seconds_an_hour:.1f} s an hour"),
        ]
    if rows:
        yield from _section("Besides", _table(["", ""], rows))


def _problems(report: Report) -> Iterator[str]:
    if report.problems:
        yield from _section("Not measured", [f"- {problem}" for problem in report.problems] + [""])


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from (f"## {title}", "")
    yield from lines


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
