"""A bridge that traces."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from bridge.emulator.server import Emulator
from bridge.loading import load
from bridge.service import Service
from bridge.settings import RunSettings
from bridge.sinks import Sink
from outside.command import GROUP, PATIENCE_SECONDS, TOPIC, settings_for


@asynccontextmanager
async def tracing(
    emulator: Emulator, folder: Path, more: Mapping[str, str] | None = None, *, sinks: Mapping[str, Sink] | None = None
) -> AsyncIterator[Service]:
    """It is drained at the end; `more` are further variables, without BRIDGE_."""
    environ = {
        **settings_for(emulator),
        "BRIDGE_ROCKETMQ__WAIT_SECONDS": "1",
        "BRIDGE_TRACING__ENABLED": "true",
        **{f"BRIDGE_{name}": value for name, value in (more or {}).items()},
    }
    # A stall of the machine may take longer than the second that an end has for the last spans.
    with patch("bridge.service.EXPORTING_SECONDS", 20.0):
        service = Service(load(RunSettings, environ=environ, folder=folder).settings, sinks=sinks)
        task = asyncio.create_task(service.run())
        try:
            yield service
        finally:
            service.interrupt()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await task


def acked(emulator: Emulator) -> int:
    return emulator.broker.book(emulator.now(), TOPIC, GROUP).acked
