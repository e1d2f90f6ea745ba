"""Waiting for what nobody announces: a condition is looked at until it holds."""

import asyncio
from collections.abc import Awaitable, Callable

from outside.command import PATIENCE_SECONDS


async def until(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait on
            await asyncio.sleep(0.01)


async def until_seen(look: Callable[[], Awaitable[bool]], *, seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
