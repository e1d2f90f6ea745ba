"""Time that passes when a test says so."""

import time


class Clock:
    """The machine's clock, and how far a test has set it forward; a broker takes it as its own.

    The SDKs keep the machine's, so beyond 15 minutes a broker refuses their dates.
    """

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._ahead_seconds

    def advance(self, seconds: float) -> None:
        """Let time pass, for whoever asks from now on."""
        self._ahead_seconds += seconds
