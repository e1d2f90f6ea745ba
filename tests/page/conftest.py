import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from missing import skip_without
from outside.command import PATIENCE_SECONDS
from page.axe import Axe, AxeMissingError, axe_source

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-quic",
)  # fmt: skip
"""Chromium asks nobody for anything of its own."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    path = shutil.which("chromium")
    if path is None:
        skip_without("Chromium isn't installed: `apt-get install chromium`")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=QUIET)
        expect.set_options(timeout=PATIENCE_SECONDS * 1000)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def axe() -> Axe:
    try:
        return Axe(axe_source())
    except AxeMissingError as problem:
        skip_without(problem)
