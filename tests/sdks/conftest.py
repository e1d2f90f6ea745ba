import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias
from uuid import uuid4

import pytest
import pytest_asyncio

from bridge.emulator.server import Emulator
from sdks.clock import Clock
from sdks.drivers import Driver, start_driver
from sdks.install import SDKS, Sdk, SdkMissingError
from sdks.skipping import skipped_without_sdk

StartedDriver: TypeAlias = Callable[[Sdk], Awaitable[Driver]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def emulator() -> AsyncIterator[Emulator]:
    """One broker for all tests that need no special one: each has a topic of its own."""
    async with Emulator() as emulator:
        yield emulator


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def short_lease_emulator() -> AsyncIterator[Emulator]:
    async with Emulator(invisible_seconds=1.0, ordered_invisible_seconds=1.0) as emulator:
        yield emulator


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(loop_scope="session")
async def clocked_emulator(clock: Clock) -> AsyncIterator[Emulator]:
    async with Emulator(clock=clock) as emulator:
        yield emulator


@contextlib.asynccontextmanager
async def warm_driver(sdk: Sdk, emulator: Emulator) -> AsyncIterator[Driver]:
    async with start_driver(sdk, emulator.url) as driver:
        # A new JVM takes a second or two for this, which isn't to count where a test looks at its watch.
        first = driver.using(topic="first_topic", group="GID_first")
        await first.call("publish", body="first")
        await first.poll()
        yield driver


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started_driver(emulator: Emulator) -> AsyncIterator[StartedDriver]:
    """The processes of the SDKs, each started when first asked for and kept for the tests that follow."""
    found: dict[Sdk, Driver | SdkMissingError] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def driver(sdk: Sdk) -> Driver:
            if sdk not in found or (isinstance(known := found[sdk], Driver) and known.ended):
                try:
                    found[sdk] = await stack.enter_async_context(warm_driver(sdk, emulator))
                except SdkMissingError as missing:
                    found[sdk] = missing  # trying once more in each test would wait for the network each time
            with skipped_without_sdk():
                if isinstance(it := found[sdk], SdkMissingError):
                    raise it
                return it

        yield driver


@pytest.fixture
def topic() -> str:
    return f"topic_{uuid4().hex}"


@pytest.fixture
def group() -> str:
    return f"GID_{uuid4().hex}"


@pytest_asyncio.fixture(loop_scope="session")
async def python(started_driver: StartedDriver, topic: str, group: str) -> Driver:
    return (await started_driver("python")).using(topic=topic, group=group)


@pytest_asyncio.fixture(loop_scope="session")
async def node(started_driver: StartedDriver, topic: str, group: str) -> Driver:
    return (await started_driver("node")).using(topic=topic, group=group)


@pytest_asyncio.fixture(loop_scope="session")
async def java(started_driver: StartedDriver, topic: str, group: str) -> Driver:
    return (await started_driver("java")).using(topic=topic, group=group)


@pytest_asyncio.fixture(loop_scope="session", params=SDKS)
async def driver(request: pytest.FixtureRequest, started_driver: StartedDriver, topic: str, group: str) -> Driver:
    """Each SDK in turn."""
    return (await started_driver(request.param)).using(topic=topic, group=group)


@pytest_asyncio.fixture(loop_scope="session", params=SDKS)
async def publisher(request: pytest.FixtureRequest, started_driver: StartedDriver, topic: str) -> Driver:
    """Each SDK in turn, where a test's `driver` consumes what another one publishes."""
    return (await started_driver(request.param)).using(topic=topic)
