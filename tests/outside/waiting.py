"""Waiting for what nobody announces: a condition is looked at until it holds."""

import asyncio
from collections.abc import Awaitable, Callable

WITHIN_A_POLL_SECONDS = 25.0
"""Less than a long poll lasts: what a test publishes into one, or ends one with, isn't due to the next by then."""


async def until(condition: Callable[[], bool], *, seconds: float = WITHIN_A_POLL_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait on
            await asyncio.sleep(0.01)


async def until_seen(look: Callable[[], Awaitable[bool]], *, seconds: float = WITHIN_A_POLL_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
