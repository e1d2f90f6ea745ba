"""How long to wait before trying again."""

import asyncio
import random


class Backoff:
    """Pauses that double up to a ceiling, in seconds, each shortened at random by up to a half so that replicas part ways."""

    def __init__(self, first: float, ceiling: float, rng: random.Random) -> None:
        self._first = first
        self._ceiling = ceiling
        self._rng = rng
        self._next = first

    def pause(self, asked: float | None = None) -> float:
        """The next pause; at least what the other side asked for."""
        pause = self._next * self._rng.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._ceiling)
        return max(pause, asked or 0.0)

    def reset(self) -> None:
        """It worked: begin with the first pause again."""
        self._next = self._first


async def wait(seconds: float, *events: asyncio.Event) -> None:
    """Wait for any of the events, for so many seconds at most; not at all when that is 0 or less."""
    if seconds <= 0 or any(event.is_set() for event in events):
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
