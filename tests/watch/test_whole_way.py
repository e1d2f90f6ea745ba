"""What a scrape of a running bridge says of what only a broker and a Service can bring about."""

import asyncio
import time
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from bridge import service
from bridge.emulator.server import Emulator
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.credentials.in_force import CredentialsInForce
from bridge.testing import MemorySink
from bridge.watch import facts
from outside.command import GROUP, TOPIC
from outside.test_health import running
from outside.waiting import until

LABELS = f'group="{GROUP}",topic="{TOPIC}"'
LATENCY = f"bridge_end_to_end_latency_seconds_sum{{{LABELS}}}"


async def test_latency_counts_from_the_publishing_by_the_brokers_clock_and_units_by_its_bill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the two clocks show."""
    expire_at = time.time() + 3600
    temporary = Credentials(access_key_id="AKID", access_key_secret="SECRET", expires_at=expire_at)
    monkeypatch.setattr(service, "credentials_for", lambda _: CredentialsInForce(temporary))
    async with Emulator() as emulator:
        emulator.faults.clock_offset_seconds = 600
        emulator.publish(TOPIC, "x" * 10_000)
        await asyncio.sleep(1.6)  # it is to be so old
        async with running(emulator, tmp_path, sink=MemorySink()) as (_, probe):
            await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 1)
            status, text = await probe.get("/metrics")
    values = parsed(text)
    assert status == 200
    assert 0.5 <= values[LATENCY] < 5  # a Date header is exact to a second
    assert values[f"bridge_billed_units_total{{{LABELS}}}"] >= 3
    assert values[f"bridge_credentials_remaining_seconds{{{LABELS}}}"] == pytest.approx(3600, abs=60)


async def test_where_the_clocks_agree_latency_is_no_longer_than_it_took_whatever_a_date_leaves_open(
    tmp_path: Path,
) -> None:
    async with Emulator() as emulator, running(emulator, tmp_path, sink=MemorySink()) as (_, probe):
        await until(lambda: emulator.open_polls() == 1)
        begun = time.monotonic()
        for number in range(20):
            emulator.publish(TOPIC, "hello")
            await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == number + 1)  # noqa: B023 - awaited here
        took = time.monotonic() - begun
        _, text = await probe.get("/metrics")
    assert 0 < parsed(text)[LATENCY] <= took + 20 * 0.001  # an instant of publishing is whole milliseconds


async def test_bodies_with_another_md5_than_sent_are_counted_and_logged_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "log", logged := CapturingLogger())
    async with Emulator() as emulator, running(emulator, tmp_path, sink=MemorySink()) as (_, probe):
        emulator.faults.wrong_md5 = 1
        for _ in range(3):
            emulator.publish(TOPIC, "hello")
        await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 3)
        _, text = await probe.get("/metrics")
    assert parsed(text)[f"bridge_messages_mismatched_total{{{LABELS}}}"] == 3
    assert [call.args for call in logged.calls if "MD5" in str(call.args)] == [("body with another MD5 than sent",)]


def parsed(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}
