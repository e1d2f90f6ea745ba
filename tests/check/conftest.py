from collections.abc import AsyncIterator, Iterator

import pytest

from bridge.emulator.server import Emulator
from check.looking import TOPIC
from ledger.server import RedisServer, running_redis


@pytest.fixture(autouse=True)
def from_here(no_proxies: None) -> None:
    """What is checked is looked at from this machine."""


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A broker with one topic."""
    async with Emulator(topics=[TOPIC]) as running:
        yield running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server
