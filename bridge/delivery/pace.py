"""How long to wait before trying again."""

import asyncio
import random
from collections.abc import Callable

from bridge.errors import BridgeError, FixSettingsError, ThrottledError

EASING = 0.7
"""What a success leaves of a pause that has grown. Not nothing: half of the calls failing is trouble, too."""


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

    def ease(self) -> None:
        """It worked: the next pause is a little shorter than it would have been."""
        self._next = max(self._first, self._next * EASING)

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._next = self._first


class Pace:
    """When the broker may be polled again. One for the whole process, as the broker counts the calls of all pollers."""

    CEILING_SECONDS = 30.0

    def __init__(self, now: Callable[[], float], rng: random.Random) -> None:
        self._now = now
        self._trouble = Backoff(0.5, self.CEILING_SECONDS, rng)
        self._throttled = Backoff(5.0, self.CEILING_SECONDS, rng)
        self._hopeless = Backoff(10.0, self.CEILING_SECONDS, rng)
        self._idle = Backoff(2.0, 5.0, rng)
        self._trouble_until = 0.0
        self.throttled_until = 0.0
        """Until when the broker, which found the calls too many, is left alone; on the event loop's clock."""
        self.resume_at = 0.0
        """On the event loop's clock."""

    def note_trouble(self, problem: BridgeError) -> None:
        """A poll has failed. Those that were out at the same time tell nothing new."""
        if self._now() < self._trouble_until:
            return
        throttled, hopeless = isinstance(problem, ThrottledError), isinstance(problem, FixSettingsError)
        backoff = self._throttled if throttled else self._hopeless if hopeless else self._trouble
        self._trouble_until = self._now() + backoff.pause()
        self.resume_at = max(self.resume_at, self._trouble_until)
        if throttled:
            self.throttled_until = self._trouble_until

    def note_ack_trouble(self, problem: BridgeError) -> None:
        """An ack has failed, which slows the polls only when the broker says that it is called too often."""
        if isinstance(problem, ThrottledError):
            self.note_trouble(problem)

    def note_success(self) -> None:
        """A poll has been answered as it should."""
        for backoff in (self._trouble, self._throttled, self._hopeless):
            backoff.ease()

    def note_nothing_at_once(self) -> None:
        """An empty answer came at once: the broker doesn't hold polls, or wasn't asked to. Pauses grow from 1 to 5 s."""
        self.resume_at = max(self.resume_at, self._now() + self._idle.pause())

    def note_held(self) -> None:
        """A poll was held as it should be, or brought something from a broker that holds polls."""
        self._idle.reset()


async def wait(seconds: float, *events: asyncio.Event) -> None:
    """Wait for any of the events, for so many seconds at most; not at all when that is 0 or less."""
    if seconds <= 0 or any(event.is_set() for event in events):
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
