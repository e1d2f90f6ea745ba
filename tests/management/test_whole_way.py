"""A bridge that is asked how its consumer is, the emulator being both the broker and the management API."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.emulator.server import Emulator
from bridge.errors import FixSettingsError
from bridge.loading import load
from bridge.service import Service, credentials_for, management_api
from bridge.settings import RunSettings
from bridge.testing import MemorySink
from bridge.watch.consumer import Consumer, ConsumerStatus
from outside.command import GROUP, TOPIC, settings_for
from outside.waiting import WITHIN_A_POLL_SECONDS, until


class Bridge:
    def __init__(self, service: Service) -> None:
        self.service = service

    @property
    def consumer(self) -> Consumer:
        return self.service.facts.consumer

    async def health(self) -> tuple[int, dict[str, Any]]:
        url = f"http://127.0.0.1:{self.service.port}/healthz"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.json()


def settings(emulator: Emulator, **changes: str) -> dict[str, str]:
    return {
        **settings_for(emulator),
        "BRIDGE_MANAGEMENT__ENABLED": "true",
        "BRIDGE_MANAGEMENT__ENDPOINT": emulator.url,
        "BRIDGE_MANAGEMENT__INTERVAL_SECONDS": "5",
        "BRIDGE_ROCKETMQ__WAIT_SECONDS": "30",
        **changes,
    }


@asynccontextmanager
async def running(emulator: Emulator, folder: Path, **changes: str) -> AsyncIterator[Bridge]:
    environ = settings(emulator, **changes)
    service = Service(load(RunSettings, environ=environ, folder=folder).settings, sinks={"stdout": MemorySink()})
    task = asyncio.create_task(service.run())
    try:
        yield Bridge(service)
    finally:
        service.interrupt()
        service.interrupt()
        async with asyncio.timeout(WITHIN_A_POLL_SECONDS):
            await task


async def test_the_report_tells_who_is_connected_and_how_far_behind(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.management_delay_seconds = 2.5
    async with running(emulator, tmp_path) as bridge, running(emulator, tmp_path):
        await until(lambda: bridge.consumer.listed is not None and bridge.consumer.listed.number == 2)
        status, report = await bridge.health()
    assert status == 200
    consumer = report["consumer"]
    assert (consumer["status"], consumer["reason"], consumer["model"]) == ("online", None, "CLUSTERING")
    assert consumer["connected"] == len(consumer["connections"]) == 2
    assert {connection["language"] for connection in consumer["connections"]} == {"HTTP"}
    assert all(connection["client_id"].startswith("127.0.0.1@") for connection in consumer["connections"])
    assert (consumer["backlog_messages"], consumer["delay_seconds"]) == (0, 2.5)
    assert report["components"]["management"]["status"] == "ok"


def _stalled(emulator: Emulator) -> None:
    emulator.faults.management_stalled = 1


def _garbage(emulator: Emulator) -> None:
    emulator.faults.management_garbage = 1


def _refusing(code: str, status: int) -> Callable[[Emulator], None]:
    def refuse(emulator: Emulator) -> None:
        emulator.faults.management_error, emulator.faults.management_error_status = code, status

    return refuse


def _unlisted(emulator: Emulator) -> None:
    emulator.faults.management_unlisted = True


@pytest.mark.parametrize(
    ("trouble", "status", "words"),
    [
        (_unlisted, ConsumerStatus.NOT_LISTED, "our own polls succeed"),
        (_refusing("Throttling.User", 400), ConsumerStatus.UNKNOWN, "10 calls a second"),
        (_refusing("NoPermission", 403), ConsumerStatus.UNKNOWN, "mq:QueryConsumerConnection"),
        (_refusing("InternalError", 500), ConsumerStatus.UNKNOWN, "500"),
        (_garbage, ConsumerStatus.UNKNOWN, "no answer of the management API"),
        (_stalled, ConsumerStatus.UNKNOWN, "nobody has asked yet"),
    ],
)
async def test_whatever_it_says_or_does_not_say_deliveries_go_on(
    emulator: Emulator, tmp_path: Path, trouble: Callable[[Emulator], None], status: ConsumerStatus, words: str
) -> None:
    trouble(emulator)
    async with running(emulator, tmp_path, BRIDGE_MANAGEMENT__REQUIRED="true") as bridge:
        await until(lambda: bridge.consumer.status is status and words in (bridge.consumer.reason or ""))
        await until(lambda: emulator.open_polls() == 1)
        for number in range(30):
            emulator.publish(TOPIC, f"{number}")
        async with asyncio.timeout(5):
            await emulator.until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 30)
        assert bridge.consumer.status is status
        health, report = await bridge.health()
        assert health == 200
        assert words in report["consumer"]["reason"]
        assert report["consumer"]["status"] == status.value


@pytest.mark.parametrize("offline_empty", [False, True])
async def test_offline_is_told_in_both_shapes(emulator: Emulator, tmp_path: Path, *, offline_empty: bool) -> None:
    emulator.faults.management_offline_empty = offline_empty
    emulator.faults.stalled = 1  # so that no poll succeeds
    async with running(emulator, tmp_path) as bridge:
        await until(lambda: bridge.consumer.status is ConsumerStatus.OFFLINE)
        health, report = await bridge.health()
    assert (health, report["connected"], report["consumer"]["status"]) == (503, False, "offline")


@pytest.mark.parametrize(
    ("required", "status", "health"),
    [
        ("true", ConsumerStatus.OFFLINE, 503),
        ("true", ConsumerStatus.NOT_LISTED, 200),
        ("true", ConsumerStatus.UNKNOWN, 200),
        ("false", ConsumerStatus.OFFLINE, 200),
    ],
)
async def test_offline_and_only_that_fails_the_report_of_who_requires_it(
    emulator: Emulator, tmp_path: Path, required: str, status: ConsumerStatus, health: int
) -> None:
    """As when nothing is polled on purpose for minutes, while a sink is down."""
    async with running(emulator, tmp_path, BRIDGE_MANAGEMENT__REQUIRED=required) as bridge:
        await until(lambda: emulator.open_polls() == 1 and bridge.consumer.checked_at is not None)
        bridge.service.facts.consumer = Consumer(status=status, reason="because", checked_at=1.0)
        found, report = await bridge.health()
    assert (found, report["connected"], report["consumer"]["status"]) == (health, True, status.value)


async def test_disabled_it_is_never_asked(emulator: Emulator, tmp_path: Path) -> None:
    async with running(emulator, tmp_path, BRIDGE_MANAGEMENT__ENABLED="false") as bridge:
        await until(lambda: emulator.open_polls() == 1)
        _, report = await bridge.health()
    assert report["consumer"]["status"] == "disabled"
    assert "management" not in report["components"]
    assert not emulator.management.calls


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"BRIDGE_MANAGEMENT__INTERVAL_SECONDS": "1"}, "BRIDGE_MANAGEMENT__INTERVAL_SECONDS: '1'"),
        ({"BRIDGE_MANAGEMENT__ENDPOINT": "https://ons.cn-hangzhou.aliyuncs.com/path"}, "BRIDGE_MANAGEMENT__ENDPOINT"),
        ({"BRIDGE_MANAGEMENT__REGION": "Hangzhou!"}, "BRIDGE_MANAGEMENT__REGION"),
        (
            {"BRIDGE_MANAGEMENT__ENABLED": "false", "BRIDGE_MANAGEMENT__REQUIRED": "true"},
            "BRIDGE_MANAGEMENT__REQUIRED: .*needs BRIDGE_MANAGEMENT__ENABLED",
        ),
    ],
)
async def test_wrong_settings_are_named(emulator: Emulator, tmp_path: Path, changes: dict[str, str], mistake: str) -> None:
    with pytest.raises(FixSettingsError, match=mistake):
        load(RunSettings, environ=settings(emulator, **changes), folder=tmp_path)


async def test_the_region_is_that_of_the_endpoints_name(emulator: Emulator, tmp_path: Path) -> None:
    def loaded(name: str) -> RunSettings:
        place = {"BRIDGE_MANAGEMENT__ENDPOINT": "", "BRIDGE_ROCKETMQ__ENDPOINT": f"http://{name}"}
        return load(RunSettings, environ=settings(emulator, **place), folder=tmp_path).settings

    for name in ("1234.mqrest.cn-wuhan.aliyuncs.com", "1234.mqrest.cn-wuhan-internal.aliyuncs.com"):
        known = loaded(name)
        assert management_api(known, credentials_for(known.rocketmq)).host == "ons.cn-wuhan.aliyuncs.com"
    with pytest.raises(FixSettingsError, match="BRIDGE_MANAGEMENT__REGION is not set"):
        Service(loaded("broker.example"))
