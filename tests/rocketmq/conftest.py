"""An emulator, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from bridge.emulator.server import Emulator
from bridge.rocketmq.client import Client
from rocketmq.servers import client_of


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[Client]:
    async with client_of(emulator.url) as opened:
        yield opened
