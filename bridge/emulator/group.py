"""One consumer group's view of one topic: leases, redelivery, acks, dead letters."""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Iterator

from bridge.emulator.books import Backlog
from bridge.emulator.handles import ReceiptHandle
from bridge.emulator.queues import OrderedQueue, Queue, Subscription, UnorderedQueue
from bridge.emulator.stored import Entry, State, StoredMessage
from bridge.rocketmq.message import Message

_SLACK = 64
"""How many dead leases are kept before it is worth sorting them out."""


class Group:
    """Sees every message it is given with `add` until it is acked, dead-lettered or forgotten.

    `max_retries` is how often a message is delivered again; after the last lease it is dead-lettered (protocol.md 6),
    and its dead letter is kept for `retention` milliseconds. Instants are milliseconds since the epoch.

    Nothing happens by itself: whoever asks the group for something calls `advance` first.
    """

    def __init__(self, *, rng: random.Random, retention: int, max_retries: int) -> None:
        self._rng = rng
        self._retention = retention
        self._max_retries = max_retries
        self._entries: dict[str, Entry] = {}
        self._sequence = itertools.count()
        self._queues: dict[Subscription, Queue] = {}
        self._leases: list[tuple[int, int, Entry]] = []
        self._lease_number = itertools.count()
        self._dead_letters: deque[tuple[int, StoredMessage]] = deque()
        self.counts: Counter[State] = Counter()
        """How many messages stand in each state; acked and dead-lettered ones count beyond their retention."""
        self.expired = 0
        """How many were neither acked nor dead-lettered when their retention ended."""

    def add(self, message: StoredMessage) -> None:
        """Let the group see one more message."""
        entry = Entry(message, next(self._sequence), self._rng.getrandbits(32))
        self._entries[message.message_id] = entry
        self.counts[State.READY] += 1
        for queue in self._queues_of(entry):
            queue.add(entry)

    def take(self, now: int, subscription: Subscription, *, count: int, lease: int) -> list[Message]:
        """Deliver `count` messages at most, each leased for `lease` milliseconds."""
        until = now + lease
        deliveries = []
        for entry in self._queue(subscription).first(count):
            for queue in self._queues_of(entry):
                queue.leased(entry)
            self._count(entry, State.LEASED)
            deliveries.append(entry.lease(now, until))
            heapq.heappush(self._leases, (until, next(self._lease_number), entry))
        return deliveries

    def give_back(self, message_id: str) -> None:
        """Undo a delivery that nobody has seen."""
        entry = self._entries[message_id]
        entry.consumed_times -= 1
        if not entry.consumed_times:
            entry.first_consume_time = None
        self._release(entry)

    def ack(self, now: int, handle: ReceiptHandle) -> str | None:
        """Settle a delivery for good; an error code when the handle doesn't (protocol.md 6)."""
        entry = self._entries.get(handle.message_id)
        if entry is None:
            return "ReceiptHandleError"
        refusal = entry.refusal(now, handle)
        if refusal is None:
            self._release(entry)
            self._finish(entry, State.ACKED)
            self._sort_out_leases()
        return refusal

    def advance(self, now: int) -> None:
        """Make ready again, or dead-letter, what wasn't acked in time; drop old dead letters."""
        while (until := self.next_expiry()) is not None and until <= now:
            _, _, entry = heapq.heappop(self._leases)
            self._release(entry)
            if entry.consumed_times > self._max_retries:
                self._finish(entry, State.DEAD)
                self._dead_letters.append((now, entry.message))
        while self._dead_letters and self._dead_letters[0][0] + self._retention <= now:
            self._dead_letters.popleft()

    def next_expiry(self) -> int | None:
        """When the next lease ends; None without one."""
        while self._leases and not _is_live(self._leases[0]):
            heapq.heappop(self._leases)
        return self._leases[0][0] if self._leases else None

    def forget(self, message: StoredMessage) -> None:
        """Its retention is over."""
        entry = self._entries.pop(message.message_id)
        if entry.state is State.LEASED:
            self._release(entry)
        if entry.state is State.READY:
            self._leave_queues(entry)
            self.counts[State.READY] -= 1
            self.expired += 1

    def backlog(self) -> Backlog:
        """How far it is behind; looks at every retained message."""
        wanted = [entry for entry in self._entries.values() if not self._queues or self._queues_of(entry)]
        unconsumed = [entry.message.publish_time for entry in wanted if entry.state in {State.READY, State.LEASED}]
        consumed = [entry.message.publish_time for entry in wanted if entry.state is State.ACKED]
        return Backlog(
            messages=len(unconsumed), oldest=min(unconsumed, default=None), last_consumed=max(consumed, default=None)
        )

    def ids(self, state: State) -> Iterator[str]:
        """The ids of the retained messages in a state, oldest first."""
        if state is State.DEAD:
            return (message.message_id for _, message in self._dead_letters)
        return (message_id for message_id, entry in self._entries.items() if entry.state is state)

    def _queue(self, subscription: Subscription) -> Queue:
        queue = self._queues.get(subscription)
        if queue is None:
            queue = OrderedQueue() if subscription.ordered else UnorderedQueue()
            for entry in self._entries.values():
                if entry.state in {State.READY, State.LEASED} and subscription.wants(entry):
                    queue.add(entry)
            self._queues[subscription] = queue
        return queue

    def _queues_of(self, entry: Entry) -> list[Queue]:
        return [queue for subscription, queue in self._queues.items() if subscription.wants(entry)]

    def _release(self, entry: Entry) -> None:
        self._count(entry, State.READY)
        entry.state = State.READY
        for queue in self._queues_of(entry):
            queue.released(entry)

    def _finish(self, entry: Entry, state: State) -> None:
        self._count(entry, state)
        entry.state = state
        self._leave_queues(entry)

    def _leave_queues(self, entry: Entry) -> None:
        for queue in self._queues_of(entry):
            queue.finished(entry)

    def _count(self, entry: Entry, state: State) -> None:
        self.counts[entry.state] -= 1
        self.counts[state] += 1

    def _sort_out_leases(self) -> None:
        if len(self._leases) > 2 * self.counts[State.LEASED] + _SLACK:
            self._leases = [lease for lease in self._leases if _is_live(lease)]
            heapq.heapify(self._leases)


def _is_live(lease: tuple[int, int, Entry]) -> bool:
    until, _, entry = lease
    return entry.state is State.LEASED and entry.next_consume_time == until
