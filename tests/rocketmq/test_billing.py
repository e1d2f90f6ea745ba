"""What the service bills, as far as it can be told from here (protocol.md 2.2, 9)."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.emulator.server import Emulator
from bridge.loading import load
from bridge.rocketmq.billing import units
from bridge.rocketmq.damage import Damaged
from bridge.service import Service
from bridge.settings import RunSettings
from bridge.testing import MemorySink
from bridge.watch.facts import Counts
from bridge.watch.health import report
from outside.command import GROUP, PATIENCE_SECONDS, TOPIC, settings_for
from outside.waiting import until
from rocketmq.documents import expected


@pytest.mark.parametrize(
    ("body", "billed"),
    [
        ("a", 1),
        ("a" * 4096, 1),
        ("a" * 4097, 2),
        ("a" * 16_384, 4),
        ("中" * 1365, 1),  # 4,095 bytes of UTF-8
        ("中" * 1366, 2),
        ("🍵" * 1024, 1),
        ("🍵" * 1025, 2),
        ("\ud800" * 1366, 2),
    ],
)
def test_a_delivery_is_billed_by_the_4_kb_of_its_body_and_once_at_least(body: str, billed: int) -> None:
    assert units(replace(expected(), body=body), ordered=False) == billed


@pytest.mark.parametrize("name", ["__STARTDELIVERTIME", "__TransCheckT"])
def test_scheduled_and_transactional_messages_cost_five_times_as_much_and_so_do_ordered_ones(name: str) -> None:
    message = replace(expected(), body="a" * 5000)
    assert units(replace(message, properties={name: "10"}), ordered=False) == 10
    assert units(message, ordered=True) == 10


def test_a_damaged_message_is_billed_too() -> None:
    damaged = Damaged(
        reason="", raw=b"x" * 5000, message_id=None, receipt_handle=None, next_consume_time=None, consumed_times=None
    )
    assert units(damaged, ordered=False) == 2
    assert units(damaged, ordered=True) == 10


def test_before_the_first_ack_there_are_no_calls_per_message() -> None:
    counts = Counts(polls=Counter(empty=3))
    assert counts.calls_per_message is None
    assert counts.billed_units == 3


def test_a_poll_without_messages_is_billed_as_a_call_and_one_with_messages_by_these() -> None:
    counts = Counts(polls=Counter(empty=2, early=1, messages=1), delivered_units=7, ack_calls=1, acked=2)
    assert counts.calls == {"consume": 4, "ack": 1}
    assert counts.calls_per_message == 2.5
    assert counts.billed_units == 10


async def test_the_report_has_the_calls_that_the_broker_has_seen_and_their_price(emulator: Emulator, tmp_path: Path) -> None:
    for number in range(40):
        emulator.publish(TOPIC, f"{number}".ljust(5000))
    settings = load(RunSettings, environ=settings_for(emulator), folder=tmp_path).settings
    service = Service(settings, sinks={"stdout": MemorySink()})
    running = asyncio.create_task(service.run())
    await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 40)
    service.drain()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await running

    billing = report(service.facts)["billing"]
    calls = {call.kind: number for call, number in emulator.broker.calls.items()}
    empty_polls = service.facts.counts.polls.total() - service.facts.counts.polls["messages"]
    assert billing == {
        "calls": calls,
        "calls_per_acked_message": sum(calls.values()) / 40,
        "billed_units": 40 * 2 + empty_polls,
    }
