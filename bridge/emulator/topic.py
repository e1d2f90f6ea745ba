"""One topic: what is published, what is still to come, and who reads it."""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterator

from bridge.emulator.group import Group
from bridge.emulator.stored import StoredMessage
from bridge.emulator.transactions import HalfMessages


class Topic:
    """Instants are milliseconds since the epoch, `retention` is in milliseconds.

    Nothing happens by itself: whoever asks the topic for something calls `advance` first.
    """

    def __init__(self, *, rng: random.Random, retention: int, max_retries: int) -> None:
        self._rng = rng
        self._retention = retention
        self._max_retries = max_retries
        self._log: deque[tuple[int, StoredMessage]] = deque()
        self._delayed: list[tuple[int, int, StoredMessage]] = []
        self._delayed_number = itertools.count()
        self.groups: dict[str, Group] = {}
        self.halves = HalfMessages(rng=rng)
        self.published = 0
        """How many messages have become visible to groups, those whose retention is over included."""

    @property
    def delayed(self) -> int:
        """How many messages wait for their time of delivery."""
        return len(self._delayed)

    def add(self, now: int, message: StoredMessage, *, deliver_at: int) -> None:
        """Show a message to every group, now or at `deliver_at`."""
        if deliver_at <= now:
            self._show(now, message)
        else:
            heapq.heappush(self._delayed, (deliver_at, next(self._delayed_number), message))

    def group(self, name: str) -> Group:
        """The group of that name; a new one sees every retained message."""
        group = self.groups.get(name)
        if group is None:
            group = Group(rng=self._rng, retention=self._retention, max_retries=self._max_retries)
            self.groups[name] = group
            for _, message in self._log:
                group.add(message)
        return group

    def advance(self, now: int) -> None:
        """Let everything happen that is due; groups are advanced by themselves."""
        while self._delayed and self._delayed[0][0] <= now:
            _, _, message = heapq.heappop(self._delayed)
            self._show(now, message)
        while self._log and self._log[0][0] + self._retention <= now:
            _, message = self._log.popleft()
            for group in self.groups.values():
                group.forget(message)
        self.halves.drop_expired(now)

    def next_change(self, group: str) -> int | None:
        """When something may next become deliverable to a group without anybody's doing."""
        instants = [self._delayed[0][0]] if self._delayed else []
        expiry = self.group(group).next_expiry()
        if expiry is not None:
            instants.append(expiry)
        return min(instants, default=None)

    def ids(self) -> Iterator[str]:
        """The ids of the retained messages, oldest first."""
        return (message.message_id for _, message in self._log)

    def _show(self, now: int, message: StoredMessage) -> None:
        self._log.append((now, message))
        self.published += 1
        for group in self.groups.values():
            group.add(message)
