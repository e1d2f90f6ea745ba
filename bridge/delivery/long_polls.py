"""Whether the broker holds polls: where an instance has too many connections it silently doesn't (protocol.md 2.2)."""

from collections.abc import Callable

import structlog

from bridge.source import Batch
from bridge.watch.facts import Facts

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

EARLY_SHARE = 0.8
"""An empty answer after less than this share of the wait that was asked for is early."""
EARLY_IN_A_ROW = 3
"""So many early answers, and no poll held between them, are no accident any more."""
HELD_SECONDS = 1.0
"""A poll that brought messages after so long was held: a broker that doesn't hold polls answers at once."""
BELIEVED_SECONDS = 60.0
"""How long an early answer is believed while polls bring messages at once, which tells nothing about the broker."""


class LongPolls:
    """Judges each answer by how long it took, and says in `Facts.short_polls` and one line of the log what that means."""

    def __init__(self, facts: Facts, now: Callable[[], float]) -> None:
        self._facts = facts
        self._now = now
        self._early = 0
        self._early_at = 0.0
        self._short_since = 0.0

    @property
    def held(self) -> bool:
        """Whether the broker holds polls, as far as is known."""
        return self._facts.short_polls is None

    def are_early(self, batch: Batch, wait_seconds: int) -> bool:
        """Judge the answer to a poll that was to wait so long, which is more than 0; tell whether it was early."""
        enough = wait_seconds * EARLY_SHARE
        if not batch.deliveries and batch.waited < enough:
            self._note_early(batch.waited, wait_seconds)
            return True
        if batch.waited >= min(HELD_SECONDS, enough) or self._now() - self._early_at >= BELIEVED_SECONDS:
            self._note_held()
        return False

    def _note_early(self, waited: float, wait_seconds: int) -> None:
        self._early += 1
        self._early_at = self._now()
        if self.held and self._early >= EARLY_IN_A_ROW:
            self._short_since = self._early_at
            self._facts.short_polls = (
                f"the broker doesn't hold polls: an empty answer after {waited:.1f} s instead of {wait_seconds} s, as where an "
                "instance has too many connections; polled every few seconds, by one poller"
            )
            log.warning("polls are not held", reason=self._facts.short_polls)

    def _note_held(self) -> None:
        if not self.held:
            self._facts.short_polls = None
            log.warning("polls are held again", after_seconds=round(self._now() - self._short_since, 1), early=self._early)
        self._early = 0
