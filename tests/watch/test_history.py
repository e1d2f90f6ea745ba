from bridge.watch.facts import Facts
from bridge.watch.history import SAMPLE_SECONDS, SPAN_SECONDS, History


def test_throughput_is_that_of_the_last_minute_whatever_was_before() -> None:
    facts = Facts(["kafka"])
    now = 0.0
    facts.monotonic = lambda: now
    assert Facts(["kafka"]).throughput is None
    for _ in range(100):
        facts.history.add(facts.sample())
        now += SAMPLE_SECONDS
        facts.counts.received += 50 if now < 400 else 10
        facts.counts.acked += 5
    lately = facts.throughput
    assert lately is not None
    assert lately.over_seconds == 60
    assert (lately.received_per_second, lately.acked_per_second) == (2.0, 1.0)


def test_it_keeps_the_last_minutes_and_no_more() -> None:
    facts = Facts(["kafka"])
    now = 0.0
    facts.monotonic = lambda: now
    history = History()
    for _ in range(10_000):
        now += SAMPLE_SECONDS
        history.add(facts.sample())
    ages = [now - sample.at for sample in history.samples]
    assert (ages[0], ages[-1]) == (SPAN_SECONDS - SAMPLE_SECONDS, 0)
