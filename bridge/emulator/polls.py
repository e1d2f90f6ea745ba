"""Long polls: who waits for what, and who is served first."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.emulator.broker import Broker
from bridge.emulator.changes import Changes
from bridge.emulator.queues import Subscription
from bridge.rocketmq.message import Message


class Place(NamedTuple):
    """Where a poll looks for messages."""

    instance: str | None
    topic: str
    group: str | None
    """None looks for half messages."""


@dataclass(slots=True, eq=False)
class _Waiter:
    subscription: Subscription
    count: int
    messages: asyncio.Future[list[Message]]


@dataclass(slots=True)
class _Line:
    # The first in line is served first. A dict, as one that leaves may stand anywhere.
    waiters: dict[_Waiter, None] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Polls:
    """Takes messages for polls, and lets those wait that find none.

    `now` reads the broker's clock; `changes` hears of every poll that begins or ends its wait.
    """

    def __init__(self, broker: Broker, *, now: Callable[[], int], changes: Changes) -> None:
        self._broker = broker
        self._now = now
        self._changes = changes
        self._lines: dict[Place, _Line] = {}
        self._open: Counter[str | None] = Counter()

    def open(self, instance: str | None) -> int:
        """How many polls of an instance are waiting."""
        return self._open[instance]

    async def take(self, place: Place, subscription: Subscription, *, count: int, wait: float) -> list[Message]:
        """Up to `count` messages, as soon as there are any, or none after `wait` seconds.

        A caller that is cancelled takes no messages with it.
        """
        self.serve(place)  # those in line come first
        messages = self._take(place, subscription, count)
        if messages or wait <= 0:
            return messages
        return await self._stand_in_line(place, subscription, count, wait)

    def serve(self, place: Place) -> None:
        """Serve a line: something may have become deliverable to it."""
        line = self._lines.get(place)
        if line is not None:
            self._serve(place, line)

    def serve_topic(self, instance: str | None, topic: str) -> None:
        """Serve every line of a topic."""
        for place in [place for place in self._lines if place.topic == topic and place.instance == instance]:
            self.serve(place)

    def serve_all(self) -> None:
        """Serve every line: the clock has changed."""
        for place in list(self._lines):
            self.serve(place)

    async def _stand_in_line(self, place: Place, subscription: Subscription, count: int, wait: float) -> list[Message]:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(subscription, count, loop.create_future())
        line = self._lines.setdefault(place, _Line())
        line.waiters[waiter] = None
        self._open[place.instance] += 1
        self._changes.announce()
        if line.timer is None:
            self._set_timer(place, line)
        deadline = loop.call_later(wait, _end, waiter.messages)
        try:
            return await waiter.messages
        except asyncio.CancelledError:
            # It may have been served and cancelled within one turn of the loop.
            if waiter.messages.done() and not waiter.messages.cancelled():
                self._give_back(place, waiter.messages.result())
            raise
        finally:
            deadline.cancel()
            self._open[place.instance] -= 1
            del line.waiters[waiter]
            if not line.waiters:
                if line.timer is not None:
                    line.timer.cancel()
                del self._lines[place]
            self._changes.announce()

    def _serve(self, place: Place, line: _Line) -> None:
        # Polls of one group mostly ask for the same: what one of them didn't find is not looked for again.
        exhausted: set[Subscription] = set()
        for waiter in line.waiters:
            if waiter.messages.done() or waiter.subscription in exhausted:
                continue
            messages = self._take(place, waiter.subscription, waiter.count)
            if messages:
                waiter.messages.set_result(messages)
            else:
                exhausted.add(waiter.subscription)
        self._set_timer(place, line)

    def _take(self, place: Place, subscription: Subscription, count: int) -> list[Message]:
        now = self._now()
        if place.group is None:
            return self._broker.consume_half(now, place.topic, instance=place.instance, count=count)
        return self._broker.consume(
            now, place.topic, place.group, instance=place.instance, count=count, subscription=subscription
        )

    def _give_back(self, place: Place, messages: list[Message]) -> None:
        self._broker.give_back(self._now(), place.topic, place.group, messages, instance=place.instance)
        self.serve(place)

    def _set_timer(self, place: Place, line: _Line) -> None:
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        now = self._now()
        if place.group is None:
            change = self._broker.next_half_change(now, place.topic, instance=place.instance)
        else:
            change = self._broker.next_change(now, place.topic, place.group, instance=place.instance)
        if change is not None:
            line.timer = asyncio.get_running_loop().call_later(max(change - now, 1) / 1000, self.serve, place)


def _end(messages: asyncio.Future[list[Message]]) -> None:
    if not messages.done():
        messages.set_result([])
