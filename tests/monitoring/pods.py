"""Pods of a real bridge that are scraped once a minute, where a minute is short."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import aiohttp

from bridge.emulator.server import Emulator
from bridge.loading import load
from bridge.service import Service
from bridge.settings import RunSettings
from bridge.sinks import Sink
from bridge.testing import MemorySink
from monitoring.recording import Recording
from outside.command import PATIENCE_SECONDS, TOPIC, said, settings_for, started
from outside.waiting import until, until_seen

KAFKA = {"BRIDGE_SINK": "kafka", "BRIDGE_KAFKA__BOOTSTRAP_SERVERS": "unused:9092", "BRIDGE_KAFKA__TOPIC": "orders"}
"""A sink in memory stands in for it."""


class Pods:
    """One group's pods, and what is published for them meanwhile."""

    def __init__(self, emulator: Emulator, folder: Path, session: aiohttp.ClientSession, *, minute_seconds: float) -> None:
        self.emulator = emulator
        self.minute_seconds = minute_seconds
        self.recording = Recording()
        self.folder = folder
        self._session = session
        self.ports: dict[str, int] = {}
        """Where each pod that runs is scraped."""

    @asynccontextmanager
    async def pod(
        self,
        name: str = "a",
        *,
        sink: Sink | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        management: bool = True,
    ) -> AsyncIterator[Service]:
        """A service, scraped for as long as it runs; the management API is asked twice a minute."""
        asks = {"BRIDGE_MANAGEMENT__ENABLED": f"{management}", "BRIDGE_MANAGEMENT__ENDPOINT": self.emulator.url}
        loaded = load(RunSettings, environ=self._environ({**KAFKA, **asks, **settings}), folder=self.folder).settings
        # oftener than can be set, as a minute is short
        asked = loaded.management.model_copy(update={"interval_seconds": self.minute_seconds / 2})
        service = Service(loaded.model_copy(update={"management": asked}), sinks={"kafka": sink or MemorySink()})
        running = asyncio.create_task(service.run())
        try:
            await until(lambda: service.port is not None or running.done())
            assert service.port is not None
            async with self._scraped(name, service.port):
                yield service
        finally:
            service.interrupt()
            service.interrupt()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await running

    @asynccontextmanager
    async def process(self, name: str = "a", *, settings: Mapping[str, str | None]) -> AsyncIterator[None]:
        """A `bridge run` in the folder, scraped for as long as it runs. None unsets a setting."""
        environ = self._environ({**settings, "BRIDGE_LOG__FORMAT": "json"})
        async with (
            started("run", folder=self.folder, settings=environ) as process,
            self._scraped(name, json.loads(await said(process, "started"))["health_port"]),
        ):
            yield

    def _environ(self, settings: Mapping[str, str | None]) -> dict[str, str]:
        given = {**settings_for(self.emulator), **settings}
        return {name: text for name, text in given.items() if text is not None}

    @asynccontextmanager
    async def _scraped(self, name: str, port: int) -> AsyncIterator[None]:
        self.ports[name] = port
        await until_seen(self._all_ready)
        try:
            yield
        finally:
            del self.ports[name]

    async def _all_ready(self) -> bool:
        for port in self.ports.values():
            async with self._session.get(f"http://127.0.0.1:{port}/readyz") as response:
                if response.status != 200:
                    return False
        return True

    async def minutes(self, number: int, *, publish: int = 1) -> None:
        """Let them pass, each with so many messages."""
        for _ in range(number):
            for _ in range(publish):
                self.emulator.publish(TOPIC, "hello")
            self.recording.add({name: await self.scrape(name) for name in self.ports})
            await asyncio.sleep(self.minute_seconds)

    async def scrape(self, pod: str = "a") -> str | None:
        """What a pod shows; None when it doesn't answer."""
        try:
            async with self._session.get(f"http://127.0.0.1:{self.ports[pod]}/metrics") as response:
                return await response.text()
        except aiohttp.ClientConnectionError:  # it has ended
            return None

    @asynccontextmanager
    async def trouble(self) -> AsyncIterator[None]:
        """What goes wrong goes wrong in here."""
        self.recording.trouble = self.recording.minutes
        yield
        self.recording.mended = self.recording.minutes


@asynccontextmanager
async def pods(folder: Path, *, lease_seconds: float, minute_seconds: float) -> AsyncIterator[Pods]:
    async with (
        Emulator(invisible_seconds=lease_seconds, ordered_invisible_seconds=lease_seconds) as emulator,
        aiohttp.ClientSession() as session,
    ):
        yield Pods(emulator, folder, session, minute_seconds=minute_seconds)
