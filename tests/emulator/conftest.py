"""An emulator, and a connection to it."""

from collections.abc import AsyncIterator

import pytest

from bridge.emulator.server import Emulator
from emulator.raw_http import Connection, connect


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
async def connection(emulator: Emulator) -> AsyncIterator[Connection]:
    async with connect(emulator.url) as opened:
        yield opened
