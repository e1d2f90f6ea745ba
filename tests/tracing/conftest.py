from collections.abc import AsyncIterator

import pytest

from bridge.emulator.server import Emulator
from kafka.conftest import kafka, kafka_of_this_worker
from tracing.collector import Collector, collecting
from webhook.conftest import receiver

__all__ = ["kafka", "kafka_of_this_worker", "receiver"]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """One that this process exports to, at once."""
    async with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield running
