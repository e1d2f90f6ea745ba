"""The other side is in memory, so that no time need pass."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from worlds.virtual_time import VirtualTimeLoop


@pytest.hookimpl
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual time": VirtualTimeLoop}
