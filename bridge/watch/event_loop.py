"""Whether the event loop of the delivery turns: it beats, and from another thread somebody watches that it does."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from traceback import walk_stack

import structlog

from bridge.watch.facts import Facts

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

BEAT_SECONDS = 0.25
LOOK_SECONDS = 0.5
"""How often `StallWatch.look` is to be called; longer than a beat."""
STUCK_SECONDS = 10.0
"""A loop that hasn't turned for so long is stuck: no callback may take nearly as long."""
SHOWN_FRAMES = 8


@asynccontextmanager
async def beating(facts: Facts) -> AsyncIterator[None]:
    """Let this event loop publish that it turns, and how late, for as long as the `async with` lasts."""
    task = asyncio.create_task(_beat(facts))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _beat(facts: Facts) -> None:
    while True:
        due = time.monotonic() + BEAT_SECONDS
        await asyncio.sleep(BEAT_SECONDS)
        facts.loop_lag_seconds.observe(max(0.0, time.monotonic() - due))
        facts.loop_beats += 1
        facts.forget_ended_leases()


def stuck(facts: Facts) -> str | None:
    """Why the process is as good as dead; None while its event loop turns."""
    if facts.loop_stuck_seconds < STUCK_SECONDS:
        return None
    return f"the event loop has not turned for {facts.loop_stuck_seconds:.0f} s; the log says where it is stuck"


class StallWatch:
    """Publishes for how long the event loop of the thread that made it hasn't turned, and logs each stall once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._thread = threading.get_ident()
        self._beats = facts.loop_beats
        self._logged = False

    def look(self) -> None:
        """Look once, from another thread."""
        facts = self._facts
        if facts.loop_beats == self._beats:
            # Not the time since the last beat: a process that was suspended, or had no processor, has not watched either.
            facts.loop_stuck_seconds += LOOK_SECONDS
            if stuck(facts) and not self._logged:
                self._logged = True
                log.error("the event loop is stuck", seconds=facts.loop_stuck_seconds, where=_where(self._thread))
            return
        if self._logged:
            log.warning("the event loop turns again", after_seconds=facts.loop_stuck_seconds)
        self._logged = False
        self._beats, facts.loop_stuck_seconds = facts.loop_beats, 0.0


def _where(thread: int) -> str:
    """The place in the code where a thread is, and from where it was called: no values, as those may be secrets."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented, and named so as not to be used lightly
    stack = islice(walk_stack(frame), SHOWN_FRAMES) if frame else ()
    return " < ".join(f"{at.f_code.co_filename}:{line} {at.f_code.co_name}" for at, line in stack)
