"""How many bytes of bodies may be held at once, and what a poll may ask for within them (`BRIDGE_DELIVERY__MAX_BYTES`)."""

import asyncio

from bridge.delivery.pace import wait

UNKNOWN_BODY_BYTES = 4 * 1024 * 1024
"""How large a body is taken to be before any has been seen."""
SMALL_BODY_BYTES = 64 * 1024
"""Smaller bodies are reckoned as this large, so that the first large ones among small ones find room."""
FADING = 0.9
"""How the largest recent size fades with each poll that brings smaller ones."""
BESIDE_SHARE = 0.5
"""How much of the room may be taken by what is seen through beside the flow, so that the flow keeps the rest."""


class Room:
    """Who holds how much. Sizes are bytes of bodies; what a poll will bring is reckoned at the largest recent size."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._polls = 0
        self._beside = 0
        self._largest: float = UNKNOWN_BODY_BYTES
        self._seen = False
        self._change = asyncio.Event()

    @property
    def held(self) -> int:
        """Bytes held, or reckoned to be on their way."""
        return self._polls + self._beside

    def fits(self, messages: int) -> int:
        """How many of so many messages a poll may ask for: one at least when no other poll holds any, so none is too large."""
        fitting = int((self._max_bytes - self.held) // self._largest)
        return min(messages, fitting) if fitting > 0 else int(self._polls == 0)

    def reckon(self, messages: int) -> int:
        """What so many messages are taken to hold before they are there."""
        return int(messages * self._largest)

    def learn(self, largest: int) -> None:
        """The largest body of a poll has been seen."""
        recent = self._largest * FADING if self._seen else 0.0
        self._largest = max(largest, recent, SMALL_BODY_BYTES)
        self._seen = True

    def take(self, size: int) -> None:
        """A poll, or its batch, holds so many bytes more; fewer when negative."""
        self._polls += size
        self._change.set()

    def take_beside(self, size: int) -> None:
        """So many bytes more are held beside the flow; fewer when negative."""
        self._beside += size
        self._change.set()

    def fits_beside(self, size: int) -> bool:
        """Whether so much more may be held beside the flow; the first always may."""
        return not self._beside or self._beside + size <= self._max_bytes * BESIDE_SHARE

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until somebody takes or lets go, for so many seconds at most."""
        self._change.clear()
        await wait(seconds, self._change)
