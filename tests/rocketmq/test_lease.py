"""Deadlines, and the difference of the clocks (promise 3): never later than the truth, and close to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.delivery.lease import BrokerClock, margin

LONGEST_POLL = 30.0
DRIFT = 1e-4
"""Seconds a second by which the clocks are allowed to part."""
ROUNDING = 1e-5
"""Of instants in seconds since the epoch, held as floats."""


@dataclass(frozen=True)
class Exchange:
    """A request, the broker's answer to it, and the answer's arrival, as local instants in seconds."""

    sent: float
    answered: float
    received: float


@st.composite
def exchanges(draw: st.DrawFn, *, longest: float = LONGEST_POLL, after: float = 0.0) -> list[Exchange]:
    """Some calls, several of them at a time perhaps, in the order in which their answers arrive."""
    found = []
    for _ in range(draw(st.integers(1, 8))):
        sent = after + draw(st.floats(0, 600))
        answered = sent + draw(st.floats(0, longest / 2))
        found.append(Exchange(sent, answered, answered + draw(st.floats(0, longest / 2))))
    return sorted(found, key=lambda exchange: exchange.received)


def observe(clock: BrokerClock, calls: Sequence[Exchange], difference: float, *, drift: float = 0.0) -> None:
    """Show the clock what a broker says whose own clock differs by so much; a Date names whole seconds."""
    for call in calls:
        clock.observe(math.floor(call.answered + difference + drift * call.answered), call.sent, call.received)


def lateness(clock: BrokerClock, difference: float) -> float:
    """By how many seconds the clock is later than the truth about one instant of the broker's."""
    instant = 1.8e9
    return clock.local(instant, otherwise=math.nan) - (instant - difference)


DIFFERENCES = st.floats(-2e9, 2e9)


@given(calls=exchanges(), difference=DIFFERENCES)
def test_a_lease_never_ends_later_than_the_broker_says_nor_earlier_than_one_call_leaves_open(
    calls: list[Exchange], difference: float
) -> None:
    clock = BrokerClock()

    for index, call in enumerate(calls):
        observe(clock, [call], difference)

        # A Date is exact to a second, and was written some time during its call; the clocks may have parted since.
        left_open = min(1 + c.received - c.sent + DRIFT * (call.received - c.received) for c in calls[: index + 1])
        assert -left_open - ROUNDING <= lateness(clock, difference) <= ROUNDING


@example(calls=[Exchange(0, 0, 0), Exchange(5000, 5000, 5000)], difference=1e9 + 0.99, drift=DRIFT)
@given(calls=exchanges(), difference=DIFFERENCES, drift=st.floats(-DRIFT, DRIFT))
def test_clocks_that_slowly_part_make_no_lease_end_late(calls: list[Exchange], difference: float, drift: float) -> None:
    clock = BrokerClock()

    observe(clock, calls, difference, drift=drift)

    now = difference + drift * calls[-1].received
    assert lateness(clock, now) <= DRIFT * LONGEST_POLL + ROUNDING


@given(calls=exchanges(), difference=st.floats(-1e9, 1e9), error=st.just(0.0) | st.floats(-1e6, 1e6))
def test_what_is_measured_is_exact_where_both_clocks_are_right_and_never_worse_for_what_the_broker_says(
    calls: list[Exchange], difference: float, error: float
) -> None:
    clock, instant = BrokerClock(), 1.8e9

    observe(clock, calls, difference)

    wrong = clock.likely(instant, ours=difference + error) - (instant - difference)
    left_open = min(1 + call.received - call.sent + DRIFT * (calls[-1].received - call.received) for call in calls)
    assert abs(wrong) <= min(abs(error), left_open) + ROUNDING


JUMPS = st.floats(5, 1e6) | st.floats(-1e6, -5)


@given(data=st.data(), before=exchanges(longest=1.0), difference=st.floats(-1e9, 1e9), jump=JUMPS)
def test_one_short_call_is_enough_to_learn_that_the_brokers_clock_was_set(
    data: st.DataObject, before: list[Exchange], difference: float, jump: float
) -> None:
    clock = BrokerClock()
    observe(clock, before, difference)

    observe(clock, data.draw(exchanges(longest=1.0, after=before[-1].received))[:1], difference + jump)

    assert -2 - ROUNDING <= lateness(clock, difference + jump) <= ROUNDING


@given(data=st.data(), before=exchanges(), difference=st.floats(-1e9, 1e9), jump=st.floats(-60, 60))
def test_a_jump_that_long_polls_could_not_tell_from_their_own_length_makes_a_lease_late_by_two_seconds_at_most(
    data: st.DataObject, before: list[Exchange], difference: float, jump: float
) -> None:
    clock = BrokerClock()
    observe(clock, before, difference)

    observe(clock, data.draw(exchanges(longest=1.0, after=before[-1].received))[:1], difference + jump)

    assert -2 - ROUNDING <= lateness(clock, difference + jump) <= 2 + ROUNDING


def test_a_few_short_calls_narrow_the_difference_down_to_a_round_trip() -> None:
    clock = BrokerClock()

    for tick in range(20):
        sent = tick * 1.05
        observe(clock, [Exchange(sent, sent + 0.005, sent + 0.01)], 1e9 + 0.3)

    assert -0.07 < lateness(clock, 1e9 + 0.3) <= ROUNDING


def test_before_the_first_date_the_difference_is_what_the_caller_assumes() -> None:
    assert not BrokerClock().known
    assert BrokerClock().local(1000.0, otherwise=400.0) == 600.0


def test_one_date_is_enough_to_assume_nothing() -> None:
    clock = BrokerClock()

    clock.observe(1000.0, 500.0, 500.5)

    assert clock.known
    assert clock.local(1000.0, otherwise=math.nan) == 499.0


@pytest.mark.parametrize(
    ("lease", "setting", "expected"),
    [(300, None, 10), (60, None, 6), (3, None, 0.3), (300, 25, 25), (300, 0, 0), (3, 25, 1.5), (0, None, 0), (0, 5, 0)],
)
def test_the_margin_scales_with_the_lease_and_leaves_most_of_it(lease: float, setting: float | None, expected: float) -> None:
    assert margin(lease, setting) == pytest.approx(expected)
