"""A machine whose clock is wrong: up to 15 minutes nothing is the matter, and beyond it is named (protocol.md 1.5)."""

import re
from pathlib import Path

import pytest

from bridge.emulator.server import Emulator
from bridge.testing import MemorySink
from outside.command import GROUP, TOPIC, bridge, settings_for
from outside.test_health import running
from outside.waiting import until, until_seen

LEASE_SECONDS = 30.0


@pytest.mark.parametrize("offset", [-890.0, 890.0])
async def test_up_to_15_minutes_messages_flow_and_leases_are_as_long_as_they_are(tmp_path: Path, offset: float) -> None:
    async with Emulator(invisible_seconds=LEASE_SECONDS) as emulator:
        emulator.faults.clock_offset_seconds = offset
        async with running(emulator, tmp_path, sink=MemorySink(), wait_seconds=1) as (service, _):
            emulator.publish(TOPIC, "hello")
            await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 1)
            assert service.facts.lease_seconds == pytest.approx(LEASE_SECONDS, abs=3)


@pytest.mark.parametrize("jump", [-890.0, 890.0])
async def test_a_clock_that_jumps_while_a_poll_waits_changes_nothing(tmp_path: Path, jump: float) -> None:
    async with (
        Emulator(invisible_seconds=LEASE_SECONDS) as emulator,
        running(emulator, tmp_path, sink=MemorySink()) as (service, _),
    ):
        await until(lambda: emulator.open_polls() == 1)
        emulator.faults.clock_offset_seconds = jump
        emulator.publish(TOPIC, "hello")
        emulator.time_moved()
        await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 1)
        assert service.facts.lease_seconds == pytest.approx(LEASE_SECONDS, abs=3)
        assert service.facts.counts.polls["error"] == 0


@pytest.mark.parametrize(("jump", "words"), [(1200.0, "behind"), (-1200.0, "ahead of")])
async def test_a_clock_that_jumps_too_far_while_it_runs_is_named_with_the_difference(
    emulator: Emulator, tmp_path: Path, jump: float, words: str
) -> None:
    async with running(emulator, tmp_path, sink=MemorySink(), wait_seconds=1) as (_, probe):
        await until_seen(probe.ready)
        emulator.faults.clock_offset_seconds = jump
        emulator.time_moved()
        await until_seen(lambda: probe.failing("/healthz", "TimeExpired"))
        _, report = await probe.get("/readyz")
        assert re.search(named(words), report)
        assert await probe.get("/livez") == (200, "ok")


async def test_a_clock_that_is_too_wrong_from_the_start_is_a_mistake(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.clock_offset_seconds = 1200
    result = await bridge("run", folder=tmp_path, settings=settings_for(emulator))
    assert result.code == 2
    assert re.search(named("behind"), result.err.splitlines()[-1])


def named(words: str) -> str:
    """The complaint, as a pattern: a Date header is exact to a second."""
    return rf"this machine's clock is 1,(199|200|201) s {words} the service's, and 15 minutes are allowed"
