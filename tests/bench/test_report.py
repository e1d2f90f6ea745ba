"""The arithmetic behind the bench's tables."""

import pytest

from bench.latency import Percentiles, less
from bench.measuring import Cost, Window
from bench.report import Comparison, Report, comparisons
from bench.tables import markdown


def cost(*microseconds: float) -> Cost:
    """Windows of one second in which a thousand messages cost so much each."""
    windows = tuple(
        Window(acked=1000, calls=125, seconds=1.0, cpu_seconds=each / 1000, source_cpu_seconds=0.002) for each in microseconds
    )
    return Cost(windows=windows, peak_bytes=100_000_000)


def test_a_cost_is_the_median_of_its_windows() -> None:
    measured = cost(30, 24, 27)

    assert measured.microseconds == pytest.approx(27)
    assert measured.spread == pytest.approx(6 / 27)
    assert measured.messages_a_second == pytest.approx(1000)
    assert measured.busy == pytest.approx(0.027)
    assert measured.calls_a_message == pytest.approx(0.125)
    assert measured.source_microseconds == pytest.approx(2)


def test_a_cost_that_was_measured_again_counts_all_windows() -> None:
    assert cost(10, 30).with_more(cost(20)).microseconds == pytest.approx(20)


def test_ratios_are_of_the_ones_cost_over_the_others() -> None:
    costs = {"floor": cost(10), "kafka": cost(28), "go": cost(35), "python": cost(140), "webhook-single": cost(100)}
    figures = {comparison.what: comparison for comparison in comparisons(Report(costs=costs))}

    assert figures["bridge to Kafka / floor"].value == pytest.approx(2.8)
    assert figures["bridge to Kafka / floor"].verdict == "met"
    assert figures["Go peer / bridge to Kafka"].value == pytest.approx(1.25)
    assert figures["Go peer / bridge to Kafka"].verdict == "goal met"
    assert figures["official Python SDK / bridge to Kafka"].value == pytest.approx(5)
    assert figures["official Python SDK / bridge to Kafka"].verdict == "**missed**"
    assert figures["single webhook events a second a core"].value == pytest.approx(10_000)
    assert "bridge to nothing / floor" not in figures, "what wasn't measured isn't compared"


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"),
    [
        (2.0, False, "goal met"),
        (2.5, False, "met"),
        (3.1, False, "**missed**"),
        (3.1, True, "goal met"),
        (2.9, True, "**missed**"),
    ],
)
def test_a_verdict_tells_goal_from_limit(value: float, at_least: bool, verdict: str) -> None:  # noqa: FBT001 - a parameter
    assert Comparison(what="", value=value, limit=3.0, goal=3.0 if at_least else 2.0, at_least=at_least).verdict == verdict


def test_percentiles_are_values_that_so_many_do_not_exceed() -> None:
    measured = Percentiles.of([milliseconds / 1000 for milliseconds in range(1000, 0, -1)])

    assert (measured.p50, measured.p99, measured.p999) == pytest.approx((0.5, 0.99, 0.999))


def test_added_latency_is_without_the_sinks_answer_and_over_the_floor() -> None:
    took = less({"A": 0.010, "B": 0.020}, {"A": 0.004, "B": 0.008, "of another run": 1.0})
    report = Report(latencies={"floor": Percentiles(0.001, 0.001, 0.001), "kafka": Percentiles.of(list(took.values()))})
    figures = {comparison.what: comparison.value for comparison in comparisons(report)}

    assert took == pytest.approx({"A": 0.006, "B": 0.012})
    assert figures == pytest.approx({"latency added, to kafka, p99": 11, "latency added, to kafka, p50": 5})


def test_the_ratios_stand_before_the_figures_and_what_is_missing_is_said() -> None:
    report = Report(costs={"floor": cost(10), "kafka": cost(28)}, problems=["node: `node` isn't installed"])
    text = markdown(report, {"processor": "one"})

    assert text.index("| bridge to Kafka / floor | 2.80 | ≤ 3 (goal 2.7) | met |") < text.index("| bridge to Kafka | 28.0 |")
    assert "- node: `node` isn't installed" in text
