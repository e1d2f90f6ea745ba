from collections.abc import AsyncIterator, Iterator

import pytest

from bridge.emulator.server import Emulator
from check.looking import TOPIC
from ledger.server import RedisServer, running_redis


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A broker with one topic."""
    async with Emulator(topics=[TOPIC]) as running:
        yield running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server
