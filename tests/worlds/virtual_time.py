"""An event loop whose clock moves on by itself when nothing is left to do: a day passes in milliseconds, and always alike."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_000_000.0
"""What the clock of a new loop shows, in seconds: far from 0, so that nobody takes it for a duration."""


class DeadlockError(Exception):
    """Everybody waits, and nothing will ever happen."""


class _NoWaiting(selectors.DefaultSelector):
    def __init__(self, loop: "VirtualTimeLoop") -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError
        self._loop.now += max(timeout, 0.0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For what neither opens a socket nor starts a thread."""

    def __init__(self) -> None:
        self.now = START
        super().__init__(_NoWaiting(self))

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
