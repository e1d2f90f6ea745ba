"""Each metric moves for the reason that its help gives, and all of them are what Prometheus expects."""

import asyncio
import mmap
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from bridge import __version__
from bridge.delivery.dead_letter import Reason
from bridge.errors import SinkDownError, TryAgainError
from bridge.event import Event, Origin
from bridge.rocketmq.conversion import Conversion
from bridge.sinks import CONFIRMED, Again, Outcome, Refused
from bridge.source import Batch, Delivery, NotAcked
from bridge.testing import MemorySink
from bridge.watch.consumer import Backlog, Listed
from bridge.watch.event_loop import StallWatch, beating
from bridge.watch.facts import Facts
from bridge.watch.health import report
from bridge.watch.management import ManagementWatch
from bridge.watch.metrics import METRICS, Exposition, Kind
from ledger.replicas import GONE, Replica, a_broker, replica
from rocketmq.documents import expected
from worlds.virtual_time import run
from worlds.world import StillOut, World, world

LABELS = {"topic", "group", "sink", "result", "code", "reason", "component"}


def scrape(facts: Facts) -> dict[str, float]:
    """The value of each line."""
    text, _ = Exposition(facts, {}).text()
    lines = [line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


# ---- what happens ----------------------------------------------------------------------------------------------------


async def three_flow(w: World) -> None:
    ids = w.source.publish("a", "b", "c")
    await w.until(lambda: sorted(w.acked) == sorted(ids))


async def nothing_comes(_: World) -> None:
    await asyncio.sleep(30)


async def they_are_forty_seconds_old(w: World) -> None:
    await change_what_comes(w, lambda delivery: replace(delivery, published_at=delivery.received_at - 40))
    await three_flow(w)


async def one_cannot_be_read(w: World) -> None:
    await change_what_comes(w, lambda delivery: replace(delivery, damage="it is broken"))
    ids = w.source.publish("a")
    await w.until(lambda: w.acked == ids)


async def one_flows(w: World) -> None:
    ids = w.source.publish("a")
    await w.until(lambda: w.acked == ids)


async def one_is_left(w: World) -> None:
    w.source.publish("a")
    await w.until(lambda: w.facts.counts.left.total() == 1)


async def one_is_still_out(w: World) -> None:
    w.source.publish("a")
    await asyncio.sleep(100)


async def acks_fail_until_the_lease_is_over(w: World) -> None:
    now = asyncio.get_running_loop().time
    end = now() + 301

    def refuse() -> None:
        if now() < end:
            raise TryAgainError("500")

    w.source.refuse_ack = refuse
    await one_flows(w)


async def two_acks_are_refused(w: World) -> None:
    async def ack(deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        return [NotAcked(delivery=delivery, code=str(delivery.event.body)) for delivery in deliveries]

    w.source.ack = ack  # type: ignore[method-assign]
    w.source.publish("ReceiptHandleError", "message 7 was not there")
    await asyncio.sleep(1)


async def an_ack_is_not_answered(w: World) -> None:
    troubles = iter([TryAgainError("500")])

    def refuse() -> None:
        for trouble in troubles:
            raise trouble

    w.source.refuse_ack = refuse
    await one_flows(w)


async def the_sink_goes_down(w: World) -> None:
    w.sink.trouble = SinkDownError("gone")
    w.source.publish("a")
    await w.until(lambda: w.facts.paused is not None)


async def polls_fail(w: World) -> None:
    """The one that is out comes back first."""
    problems = iter([TryAgainError("500"), TryAgainError("cut off", answer_lost=True)])

    def refuse() -> None:
        raise next(problems)

    w.source.refuse_poll = refuse
    w.source.publish("a")
    await w.until(lambda: w.facts.counts.polls["cut"] == 1)


async def polls_are_not_held(w: World) -> None:
    w.source.holds_polls = False
    await w.until(lambda: w.facts.short_polls is not None)


async def many_come(w: World) -> None:
    w.source.publish(*(f"m{number}" for number in range(1000)))
    await w.until(lambda: w.facts.pollers == 8)


async def it_is_asked_who_is_connected(w: World) -> None:
    class Answers:
        async def connections(self) -> Listed:
            return Listed(number=2)

        async def backlog(self) -> Backlog:
            return Backlog(online=True, messages=7, delay_seconds=2.5)

        def close(self) -> None: ...

    await ManagementWatch(Answers(), w.facts, interval_seconds=60, rng=random.Random(1)).look()


async def three_bodies_differ(w: World) -> None:
    conversion = Conversion(origin=Origin(topic="t", group="g"), source="/t", type_="t", on_mismatch=w.facts.body_differs)
    for _ in range(3):
        event = conversion.event(replace(expected(), body_md5="0" * 32))
        assert event.attributes["mqbodymd5"] == "mismatch"


async def credentials_are_given_for_a_minute(w: World) -> None:
    expire_at = w.facts.wall_clock() + 60
    w.facts.credentials_expire_at = lambda: expire_at


async def it_beats_for_ten_seconds(w: World) -> None:
    async with beating(w.facts):
        await asyncio.sleep(10.1)


async def it_stops_beating(w: World) -> None:
    watch = StallWatch(w.facts)
    for _ in range(3):
        watch.look()


async def one_comes_that_the_ledger_may_know(w: World) -> None:
    """The store is asked, then is gone, and what it should have been told is dropped in the end."""
    assert isinstance(w, Replica)
    still_out = w.sink.answer
    assert isinstance(still_out, StillOut)
    (message_id,) = w.source.publish("a")
    w.store.entries[message_id] = {"another sink"}
    await w.until(lambda: w.facts.counts.ledger["lookups"] == 1)
    w.store.trouble = GONE
    await w.until(lambda: w.facts.counts.ledger["skipped"] == 1)

    def refuse() -> None:
        raise TryAgainError("500")

    w.source.refuse_ack = refuse
    for answer in still_out.answers:
        answer.set_result(CONFIRMED)
    w.engine.interrupt()
    await w.running


async def change_what_comes(w: World, change: Callable[[Delivery], Delivery]) -> None:
    """Deliveries come so from the next poll on."""
    receive = w.source.receive

    async def receive_changed(max_messages: int, wait_seconds: int) -> Batch:
        batch = await receive(max_messages, wait_seconds)
        return replace(batch, deliveries=list(map(change, batch.deliveries)))

    w.source.receive = receive_changed  # type: ignore[method-assign]
    await asyncio.sleep(31)


def once(outcome: Outcome) -> MemorySink:
    """A sink that answers so the first time, and confirms from then on."""
    outcomes = iter([outcome])

    def answer(_: Event) -> Outcome:
        return next(outcomes, CONFIRMED)

    return MemorySink(answer)


class Slow(MemorySink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        await asyncio.sleep(0.2)
        return await super().send(events, deadline)


# ---- and what moves --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    happens: Callable[[World], Awaitable[None]]
    moves: dict[str, object]
    """By how much, by line."""
    world: Callable[[], AbstractAsyncContextManager[World]] = world


CASES = [
    Case(
        three_flow,
        {
            'bridge_polls_total{result="messages"}': 1,
            "bridge_messages_received_total": 3,
            'bridge_messages_delivered_total{sink="memory"}': 3,
            "bridge_messages_acked_total": 3,
            "bridge_ack_calls_total": 1,
            "bridge_api_calls_total": 2,
            'bridge_send_duration_seconds_count{sink="memory"}': 1,
            'bridge_send_duration_seconds_bucket{le="0.25",sink="memory"}': 1,
            'bridge_send_duration_seconds_bucket{le="0.1",sink="memory"}': 0,
            'bridge_send_duration_seconds_sum{sink="memory"}': pytest.approx(0.2),
            'bridge_ack_slack_seconds_bucket{le="300.0"}': 1,
            'bridge_ack_slack_seconds_bucket{le="240.0"}': 0,
            "bridge_messages_in_flight": 0,
        },
        lambda: world(Slow()),
    ),
    Case(they_are_forty_seconds_old, {
        "bridge_end_to_end_latency_seconds_count": 3,
        'bridge_end_to_end_latency_seconds_bucket{le="60.0"}': 3,
        'bridge_end_to_end_latency_seconds_bucket{le="30.0"}': 0,
        "bridge_end_to_end_latency_seconds_sum": pytest.approx(120, abs=1),
    }),
    Case(nothing_comes, {
        'bridge_polls_total{result="empty"}': 1,
        "bridge_poll_duration_seconds_count": 1,
        "bridge_poll_duration_seconds_sum": pytest.approx(30, abs=0.1),
        "bridge_billed_units_total": 1,
    }),
    Case(
        one_cannot_be_read,
        {"bridge_messages_damaged_total": 1, 'bridge_dead_letters_total{reason="damaged"}': 1},
        lambda: world(dead_letters=MemorySink()),
    ),
    Case(
        one_flows,
        {"bridge_messages_refused_total": 1, 'bridge_dead_letters_total{reason="refused"}': 1},
        lambda: world(once(Refused("too large")), dead_letters=MemorySink()),
    ),
    Case(one_flows, {"bridge_send_retries_total": 1}, lambda: world(once(Again("busy")))),
    Case(
        one_is_left,
        {'bridge_messages_left_total{reason="refused"}': 1, "bridge_messages_in_flight": 0},
        lambda: world(once(Refused("too large"))),
    ),
    Case(
        one_is_still_out,
        {
            "bridge_messages_in_flight": 1,
            "bridge_messages_parked": 1,
            "bridge_shortest_lease_seconds": pytest.approx(200, abs=1),
        },
        lambda: world(MemorySink(StillOut())),
    ),
    Case(
        acks_fail_until_the_lease_is_over,
        {
            'bridge_ack_failures_total{code="expired"}': 1,
            "bridge_leases_expired_total": 1,
            "bridge_duplicates_avoided_total": 1,
            "bridge_messages_in_flight": 0,
        },
    ),
    Case(two_acks_are_refused, {
        'bridge_ack_failures_total{code="ReceiptHandleError"}': 1,
        'bridge_ack_failures_total{code="other"}': 1,
    }),
    Case(an_ack_is_not_answered, {"bridge_ack_errors_total": 1, "bridge_ack_calls_total": 2}),
    Case(the_sink_goes_down, {
        "bridge_polling_paused": 1,
        'bridge_component_up{component="sink memory"}': -1,
        "bridge_ready": -1,
        "bridge_messages_parked": 1,
    }),
    Case(polls_fail, {
        'bridge_polls_total{result="error"}': 1,
        'bridge_polls_total{result="cut"}': 1,
        'bridge_component_up{component="rocketmq"}': -1,
    }),
    Case(polls_are_not_held, {"bridge_polls_not_held": 1, 'bridge_polls_total{result="early"}': 3}),
    Case(many_come, {"bridge_pollers": 7}, lambda: world(Slow())),
    Case(it_is_asked_who_is_connected, {
        "bridge_backlog_messages": 7,
        "bridge_backlog_delay_seconds": 2.5,
        "bridge_consumer_connections": 2,
        'bridge_component_up{component="management"}': 1,
    }),
    Case(credentials_are_given_for_a_minute, {"bridge_credentials_remaining_seconds": pytest.approx(60)}),
    Case(three_bodies_differ, {"bridge_messages_mismatched_total": 3}),
    Case(it_beats_for_ten_seconds, {"bridge_event_loop_lag_seconds_count": 40}),
    Case(it_stops_beating, {"bridge_event_loop_stuck_seconds": 1.5}),
    Case(
        one_comes_that_the_ledger_may_know,
        {
            'bridge_ledger_lookups_total{result="made"}': 2,
            'bridge_ledger_lookups_total{result="skipped"}': 1,
            "bridge_ledger_hits_total": 1,
            "bridge_ledger_failures_total": pytest.approx(50, abs=49),  # one at least
            "bridge_ledger_dropped_total": 1,
        },
        lambda: replica(a_broker(), {}, MemorySink(StillOut())),
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{case.happens.__name__}-{next(iter(case.moves))}" for case in CASES])
def test_a_metric_moves_for_the_reason_that_its_help_gives(case: Case) -> None:
    async def main() -> None:
        async with case.world() as w:
            w.facts.monotonic = asyncio.get_running_loop().time
            await asyncio.sleep(1)  # the first poll waits for nothing
            before = scrape(w.facts)
            await case.happens(w)
            after = scrape(w.facts)
            moved = {line: after[line] - before.get(line, 0.0) for line in case.moves}
            assert moved == case.moves

    run(main())


def test_a_lease_that_nobody_took_out_is_forgotten_when_it_has_ended() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        facts = Facts(["kafka"], monotonic=now)
        facts.leases = {"ends": now() + 1, "lasts": now() + 100}
        assert len(facts.lease_ends) == 2
        async with beating(facts):
            await asyncio.sleep(2)
        assert list(facts.leases) == ["lasts"]

    run(main())


def test_there_is_a_case_for_every_metric() -> None:
    at_rest = {"bridge_start_time_seconds", "bridge_build_info"}
    lines = {line.partition("{")[0] for case in CASES for line in case.moves}
    moving = {re.sub("_(bucket|count|sum)$", "", line) for line in lines}
    assert moving | at_rest == {metric.name for metric in METRICS}


def test_what_does_not_move_says_what_runs_and_since_when() -> None:
    values = scrape(Facts(["kafka"], wall_clock=lambda: 1_700_000_000.0))
    assert values[f'bridge_build_info{{version="{__version__}"}}'] == 1
    assert values["bridge_start_time_seconds"] == 1_700_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="told where there is a /proc")
def test_what_the_process_takes_is_told_by_the_names_that_dashboards_know(tmp_path: Path) -> None:
    facts = Facts(["kafka"])
    before = scrape(facts)
    with ExitStack() as files:
        for number in range(100):
            files.enter_context((tmp_path / str(number)).open("w"))
        memory = files.enter_context(mmap.mmap(-1, 64 << 20))  # the heap may have as much to spare
        memory.write(bytes(64 << 20))
        begun = time.process_time()
        while time.process_time() < begun + 0.2:
            pass
        after = scrape(facts)
    assert after["process_open_fds"] - before["process_open_fds"] > 50  # others may be closed meanwhile, and memory given back
    assert after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"] > 32 << 20
    assert after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"] > 0.1


# ---- what Prometheus expects -----------------------------------------------------------------------------------------


def test_every_metric_is_named_as_prometheus_names_them() -> None:
    """The rules of `promtool check metrics`, and ours."""
    for metric in METRICS:
        assert re.fullmatch("bridge(_[a-z0-9]+)+", metric.name), metric.name
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total"), metric.name
        assert not re.search("_(counter|gauge|histogram|count|sum|bucket|milliseconds|minutes|ms|kilobytes)(_|$)", metric.name)
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds"), metric.name
        assert re.fullmatch(r"[A-Z][^\n]*[.]", metric.help), metric.name
        assert metric.label is None or metric.label in LABELS or metric.name.endswith("_info"), metric.name
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize(
    ("accept", "parse", "suffix"),
    [
        ("", text_string_to_metric_families, ""),
        ("application/openmetrics-text", openmetrics_parser.text_string_to_metric_families, "# EOF\n"),
    ],
)
def test_the_library_reads_back_every_metric_with_the_labels_that_stand_on_all(
    accept: str, parse: Callable[[str], Iterable[Family]], suffix: str
) -> None:
    facts = Facts(["kafka", "webhook"], dead_letters=True, shared_ledger=True)
    labels = {"topic": "orders", "group": "GID_orders"}
    text, media_type = Exposition(facts, labels).text(accept)
    assert media_type.startswith(accept or "text/plain")
    assert text.decode().endswith(suffix)
    families = list(parse(text.decode()))
    samples = [sample for family in families for sample in family.samples]
    assert all(sample.labels.items() >= labels.items() for sample in samples)
    absent_at_the_start = {
        "bridge_shortest_lease_seconds",
        "bridge_credentials_remaining_seconds",
        "bridge_backlog_messages",
        "bridge_backlog_delay_seconds",
        "bridge_consumer_connections",
    }
    of_the_bridge = {family.name for family in families if not family.name.startswith("process_")}
    assert {re.sub("_total$", "", metric.name) for metric in METRICS} - absent_at_the_start == of_the_bridge


def test_the_reasons_of_dead_letters_are_there_from_the_start() -> None:
    (metric,) = [metric for metric in METRICS if metric.name == "bridge_dead_letters_total"]
    assert set(metric.values) == {reason.value for reason in Reason}


def test_facts_that_change_between_any_two_steps_of_who_reads_them_are_read_all_the_same() -> None:
    """They are published by another thread, which may run between any two bytecodes, and here does."""
    facts = Facts(["kafka"])
    counts = facts.counts
    changing: list[dict[str, Any]] = [counts.left, counts.polls, counts.not_acked, counts.dead_letters, facts.leases]
    numbers = count()

    def publish(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if "bridge/watch" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            for grows in changing:
                if len(grows) == 20:
                    grows.clear()
                grows[f"{next(numbers)}"] = 1e9
        return publish

    before = sys.gettrace()
    sys.settrace(publish)
    try:
        report(facts)
        scrape(facts)
    finally:
        sys.settrace(before)
    assert next(numbers) > 10_000
