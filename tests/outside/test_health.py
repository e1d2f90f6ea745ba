import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
from pydantic import BaseModel, TypeAdapter

from bridge.emulator.server import Emulator
from bridge.errors import FixSettingsError, SinkDownError
from bridge.event import Event
from bridge.loading import load
from bridge.service import Service
from bridge.settings import RunSettings
from bridge.sinks import CONFIRMED, Outcome, Sink
from bridge.watch.face import Face
from bridge.watch.facts import Facts
from bridge.watch.report import Report
from outside.command import GROUP, PATIENCE_SECONDS, TOPIC, settings_for
from outside.waiting import WITHIN_A_POLL_SECONDS, until, until_seen
from server_process import free_port


class NoSettings(BaseModel):
    """There is nothing to set."""


class MemorySink(Sink):
    """Keeps what it is sent, unless it is told to be down."""

    Settings = NoSettings

    def __init__(self) -> None:
        super().__init__(NoSettings())
        self.trouble: str | None = None
        self.events: list[Event] = []

    async def open(self) -> None:
        self._raise_trouble()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        self._raise_trouble()
        self.events += events
        return [CONFIRMED] * len(events)

    def _raise_trouble(self) -> None:
        if self.trouble:
            raise SinkDownError(self.trouble)


REPORT = TypeAdapter(Report)


class Probe:
    """Asks as a kubelet does. Every report that a test sees has exactly the keys and the types of the published schema."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(self._url + path) as response:
            return response.status, (await response.text()).strip()

    async def health(self) -> tuple[int, Any]:
        async with self._session.get(self._url + "/healthz") as response:
            assert response.content_type == "application/json"
            REPORT.validate_json(await response.read(), strict=True)
            return response.status, await response.json()

    async def ready(self) -> bool:
        return await self.get("/readyz") == (200, "ok")

    async def failing(self, path: str, reason: str) -> bool:
        status, text = await self.get(path)
        return status == 503 and reason in text


@asynccontextmanager
async def probing(port: int) -> AsyncIterator[Probe]:
    async with aiohttp.ClientSession() as session:
        yield Probe(session, port)


@asynccontextmanager
async def running(
    emulator: Emulator,
    folder: Path,
    *,
    sink: Sink | None = None,
    wait_seconds: int = 30,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[tuple[Service, Probe]]:
    """A service and its probe; it ends at once in the end, whatever is out."""
    environ = {**settings_for(emulator), "BRIDGE_ROCKETMQ__WAIT_SECONDS": str(wait_seconds), **settings}
    service = Service(load(RunSettings, environ=environ, folder=folder).settings, sinks={"stdout": sink or MemorySink()})
    task = asyncio.create_task(service.run())
    try:
        await until(lambda: service.port is not None or task.done())
        assert service.port is not None, "it ended before it served health"
        async with probing(service.port) as probe:
            yield service, probe
    finally:
        service.interrupt()
        service.interrupt()
        async with asyncio.timeout(WITHIN_A_POLL_SECONDS):
            await task


def face(*, host: str = "127.0.0.1", port: int = 0, **more: Any) -> Face:
    return Face(Facts(["stdout"]), host=host, port=port, labels={}, **more)


async def test_before_anything_runs_it_is_alive_and_not_ready() -> None:
    async with face() as served, probing(served.port) as probe:
        assert await probe.get("/livez") == (200, "ok")
        assert await probe.get("/readyz") == (503, "starting")
        status, report = await probe.health()
        assert (status, report["status"], report["connected"], report["ready"]) == (503, "starting", False, False)


async def test_what_is_not_served_is_said_with_what_is() -> None:
    async with face() as served, probing(served.port) as probe:
        status, text = await probe.get("/health")
        assert (status, "/healthz" in text) == (404, True)
        async with aiohttp.request("POST", f"http://127.0.0.1:{served.port}/healthz") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: ", b"GET /livez HTTP/1.1\r\nHost: bridge\r\n\r\n"])
async def test_a_connection_that_asks_nothing_more_is_closed(sent: bytes) -> None:
    async with face(idle_seconds=0.2) as served, asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200") is sent.endswith(b"\r\n\r\n")


async def test_an_idle_bridge_is_ready_long_before_its_first_long_poll_ends(emulator: Emulator, tmp_path: Path) -> None:
    async with running(emulator, tmp_path) as (_, probe):
        await until_seen(probe.ready, seconds=1)
        await until(lambda: emulator.open_polls() == 1)
        status, report = await probe.health()
        assert (status, report["status"], report["connected"], report["reason"]) == (200, "ok", True, None)
        assert report["polling"] == {
            "pollers": 1, "paused": None, "short_polls": None, "polls": {"empty": 1}, "acks": 0
        }  # fmt: skip


async def test_the_report_counts_what_flows(emulator: Emulator, tmp_path: Path) -> None:
    sink = MemorySink()
    async with running(emulator, tmp_path, sink=sink) as (_, probe):
        for number in range(40):
            emulator.publish(TOPIC, f"{number}")
        await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 40)

        async def counted() -> bool:
            return bool((await probe.health())[1]["messages"]["acked"] == 40)

        await until_seen(counted)
        status, report = await probe.health()
        assert status == 200
        assert report["messages"] == {
            "received": 40, "damaged": 0, "confirmed": 40, "refused": 0, "retried": 0, "dead_letters": {}, "trials": 0,
            "remembered": 0, "acked": 40, "not_acked": {}, "left": {}, "beside": 0,
        }  # fmt: skip
        assert len(sink.events) == 40


async def test_a_sink_that_is_down_makes_it_not_ready_until_it_is_up_again(emulator: Emulator, tmp_path: Path) -> None:
    """It stays connected to the broker, pauses on purpose, and mends itself without a restart."""
    sink = MemorySink()
    async with running(emulator, tmp_path, sink=sink, wait_seconds=1) as (_, probe):
        await until_seen(probe.ready)
        since = (await probe.health())[1]["since"]
        sink.trouble = "no connection to the sink"
        emulator.publish(TOPIC, "hello")
        await until_seen(lambda: probe.failing("/readyz", "sink stdout: no connection to the sink"))
        assert await probe.get("/livez") == (200, "ok")

        async def paused() -> bool:
            return bool((await probe.health())[1]["polling"]["paused"])

        await until_seen(paused)
        status, report = await probe.health()
        assert (status, report["status"], report["connected"]) == (200, "failing", True)
        assert report["polling"]["paused"] == "the sink is down"
        assert report["components"]["sink stdout"]["last_error"] == "no connection to the sink"
        sink.trouble = None
        await until_seen(probe.ready)
        await until(lambda: [event.body for event in sink.events] == ["hello"])
        assert (await probe.health())[1]["since"] == since


async def test_a_sink_that_does_not_open_keeps_it_from_polling_and_from_being_ready(emulator: Emulator, tmp_path: Path) -> None:
    sink = MemorySink()
    sink.trouble = "not there yet"
    async with running(emulator, tmp_path, sink=sink) as (_, probe):
        await until_seen(lambda: probe.failing("/readyz", "sink stdout: not there yet"))
        status, report = await probe.health()
        assert (status, report["connected"]) == (503, False)
        assert emulator.broker.calls.total() == 0
        sink.trouble = None
        await until_seen(probe.ready)


async def test_a_broker_that_is_down_makes_it_unhealthy_until_it_is_up_again(tmp_path: Path) -> None:
    async with Emulator(port=free_port()) as emulator, running(emulator, tmp_path) as (_, probe):
        await until_seen(probe.ready)
        await emulator.close()
        await until_seen(lambda: probe.failing("/healthz", "rocketmq: polling: "))
        assert await probe.failing("/readyz", "rocketmq: polling: ")
        assert await probe.get("/livez") == (200, "ok")
        _, report = await probe.health()
        assert (report["status"], report["connected"]) == ("failing", False)
        component = report["components"]["rocketmq"]
        assert (component["status"], "none is lost" in component["advice"]) == ("failing", True)
        assert report["reason"] == f"rocketmq: {component['last_error']}"
        await emulator.start()
        await until_seen(probe.ready)
        assert (await probe.health())[0] == 200


async def test_a_key_that_is_withdrawn_from_a_running_bridge_is_reported_and_waited_for(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with running(emulator, tmp_path, wait_seconds=1) as (_, probe):
        await until_seen(probe.ready)
        emulator.faults.key_withdrawn = True
        await until_seen(lambda: probe.failing("/healthz", "InvalidAccessKeyId"))
        assert await probe.failing("/readyz", "check BRIDGE_ROCKETMQ__ACCESS_KEY_ID")
        emulator.faults.key_withdrawn = False
        await until_seen(probe.ready)


async def test_a_group_that_the_service_says_is_offline_is_reported_and_fails_health_where_that_is_required(
    emulator: Emulator, tmp_path: Path
) -> None:
    """Nothing is polled while the sink isn't there, so it is."""
    sink = MemorySink()
    sink.trouble = "not there yet"
    management = {"ENABLED": "true", "REQUIRED": "true", "ENDPOINT": emulator.url, "INTERVAL_SECONDS": "5"}
    settings = {f"BRIDGE_MANAGEMENT__{name}": text for name, text in management.items()}
    async with running(emulator, tmp_path, sink=sink, settings=settings) as (_, probe):

        async def offline() -> bool:
            return bool((await probe.health())[1]["consumer"]["status"] == "offline")

        await until_seen(offline)
        status, report = await probe.health()
        assert (status, report["status"]) == (503, "failing")
        assert report["consumer"]["reason"].startswith("the service says that nobody of the group is online, and our own polls")


async def test_a_bridge_that_drains_is_alive_and_not_ready(emulator: Emulator, tmp_path: Path) -> None:
    async with running(emulator, tmp_path) as (service, probe):
        await until(lambda: emulator.open_polls() == 1)
        service.drain()
        await until_seen(lambda: probe.failing("/readyz", "draining"))
        assert await probe.get("/livez") == (200, "ok")
        status, report = await probe.health()
        assert (status, report["status"], report["ready"], report["reason"]) == (200, "draining", False, "draining")


@pytest.mark.parametrize("host", ["127.0.0.1", "a..b"])
async def test_a_place_where_health_cannot_be_served_is_a_mistake(host: str) -> None:
    async with face() as served:
        with pytest.raises(FixSettingsError, match=f"BRIDGE_HTTP__HOST and __PORT: listening on {host} port {served.port}: "):
            async with face(host=host, port=served.port):
                pass
