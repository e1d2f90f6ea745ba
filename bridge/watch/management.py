"""Asks the management API about the consumer group now and then: a watcher beside the delivery, never in it (promise 9)."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from bridge.errors import BridgeError, ThrottledError
from bridge.watch.consumer import Backlog, Consumer, ConsumerStatus, Listed
from bridge.watch.facts import Facts

FIRST_SECONDS = 5.0
"""Until when, at the latest, the first look comes; a tenth of the interval where that is less."""
JITTER = 0.2
"""How far a pause differs from the interval at most, as a share of it: replicas share the throttle of their account."""
SLOWEST = 16
"""How many intervals a pause lasts at most, while calls are throttled; it doubles each time."""
RECENT_SECONDS = 120.0
"""How old the last poll that succeeded may be for our own polls to succeed."""


class Asked(Protocol):
    """Who is asked. The questions raise BridgeError when there is no answer, and each takes seconds at most."""

    async def connections(self) -> Listed:
        """Who is connected."""

    async def backlog(self) -> Backlog:
        """How far the group is behind."""

    def close(self) -> None:
        """Nobody asks any more."""


class ManagementWatch:
    """Publishes what it finds as `facts.consumer`, and how asking went as the component `facts.management`."""

    def __init__(self, asked: Asked, facts: Facts, *, interval_seconds: float, rng: random.Random) -> None:
        self._asked = asked
        self._facts = facts
        self._component = facts.management = facts.component("management")
        facts.consumer = Consumer(status=ConsumerStatus.UNKNOWN, reason="nobody has asked yet")
        self._interval = interval_seconds
        self._rng = rng

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look again and again, for as long as the `async with` lasts."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._asked.close()

    async def _run(self) -> None:
        await asyncio.sleep(self._rng.uniform(0, min(FIRST_SECONDS, self._interval / 10)))
        intervals = 1
        while True:
            throttled = await self.look()
            intervals = min(intervals * 2, SLOWEST) if throttled else 1
            await asyncio.sleep(self._interval * intervals * self._rng.uniform(1 - JITTER, 1 + JITTER))

    async def look(self) -> bool:
        """Ask once, and publish; tells whether it was throttled."""
        listed = backlog = None
        problems: list[BridgeError] = []
        try:
            listed = await self._asked.connections()
        except BridgeError as problem:
            problems.append(problem)
        throttled = any(isinstance(problem, ThrottledError) for problem in problems)
        if not throttled:
            try:
                backlog = await self._asked.backlog()
            except BridgeError as problem:
                problems.append(problem)
                throttled = isinstance(problem, ThrottledError)
        trouble = "; ".join(map(str, problems))
        if trouble:
            self._component.fails(trouble)
        else:
            self._component.works()
        status, reason = self._judge(listed, backlog)
        self._facts.consumer = Consumer(
            status=status,
            reason="; ".join(filter(None, (reason, trouble))) or None,
            checked_at=self._facts.wall_clock(),
            listed=listed,
            backlog=backlog,
        )
        return throttled

    def _judge(self, listed: Listed | None, backlog: Backlog | None) -> tuple[ConsumerStatus, str | None]:
        if listed is None:
            return ConsumerStatus.UNKNOWN, None
        if listed.number or (backlog and backlog.online):
            return ConsumerStatus.ONLINE, None
        nobody = "the service says that nobody of the group is online"
        failure = self._our_failure()
        if failure is None:
            reason = f"{nobody}, though our own polls succeed: it may never list consumers over HTTP"
            return ConsumerStatus.NOT_LISTED, reason
        return ConsumerStatus.OFFLINE, f"{nobody}, and {failure}"

    def _our_failure(self) -> str | None:
        """Why our own polls don't succeed; None when they do."""
        facts = self._facts
        if not facts.rocketmq.ok or facts.rocketmq.last_ok is None:
            return f"our own polls don't succeed: {facts.rocketmq.last_error or 'none has finished yet'}"
        age = facts.wall_clock() - facts.rocketmq.last_ok
        if age > RECENT_SECONDS:
            return f"our own last poll came back {age:.0f} s ago" + (f": {facts.paused}" if facts.paused else "")
        return None
