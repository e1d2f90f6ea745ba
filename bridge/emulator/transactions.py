"""Half messages: held back until their producer commits them (protocol.md 4.3)."""

import heapq
import itertools
import random
from collections import deque

from bridge.emulator.handles import ReceiptHandle
from bridge.emulator.stored import Entry, State, StoredMessage
from bridge.rocketmq.message import Message

CHECK_INTERVAL = 10_000
"""How long a handle from `trans=pop` lives, in milliseconds, and how soon the message is offered again."""

LIFETIME = 24 * 60 * 60 * 1000
"""How long an unresolved half message is offered, in milliseconds; then it is dropped."""


class HalfMessages:
    """The half messages of one topic. All instants are milliseconds since the epoch."""

    def __init__(self, *, rng: random.Random) -> None:
        self._rng = rng
        self._number = itertools.count()
        self._halves: dict[str, Entry] = {}
        self._by_age: deque[StoredMessage] = deque()
        self._checks: list[tuple[int, int, Entry]] = []
        self.open = 0
        """How many are neither committed, nor rolled back, nor dropped."""

    def add(self, now: int, message: StoredMessage, *, check_after: int) -> str:
        """Hold a message back; returns the handle that resolves it during the next `check_after` milliseconds."""
        half = Entry(message, next(self._number), self._rng.getrandbits(32), State.LEASED)
        half.next_consume_time = now + check_after
        self._halves[message.message_id] = half
        self._by_age.append(message)
        heapq.heappush(self._checks, (half.next_consume_time, half.sequence, half))
        self.open += 1
        return str(ReceiptHandle(message.message_id, half.nonce, 0))

    def pop(self, now: int, *, count: int) -> list[Message]:
        """Ask the producer about `count` messages at most that it should have resolved by now."""
        deliveries: list[Message] = []
        while len(deliveries) < count and (due := self.next_check()) is not None and due <= now:
            _, _, half = heapq.heappop(self._checks)
            deliveries.append(half.lease(now, now + CHECK_INTERVAL))
            heapq.heappush(self._checks, (half.next_consume_time, half.sequence, half))
        return deliveries

    def give_back(self, message_id: str, now: int) -> None:
        """Undo a `pop` that nobody has seen."""
        half = self._halves[message_id]
        half.consumed_times -= 1
        half.next_consume_time = now
        heapq.heappush(self._checks, (now, half.sequence, half))

    def resolve(self, now: int, handle: ReceiptHandle) -> StoredMessage | str:
        """End the wait for a message, and return it; an error code when the handle doesn't (protocol.md 6)."""
        half = self._halves.get(handle.message_id)
        if half is None:
            return "ReceiptHandleError"
        refusal = half.refusal(now, handle)
        if refusal is not None:
            return refusal
        half.state = State.ACKED
        self.open -= 1
        return half.message

    def next_check(self) -> int | None:
        """When the next message is to be offered (again); None without one."""
        while self._checks and not _is_live(self._checks[0]):
            heapq.heappop(self._checks)
        return self._checks[0][0] if self._checks else None

    def drop_expired(self, now: int) -> None:
        """Drop what nobody resolved for a day."""
        while self._by_age and self._by_age[0].publish_time + LIFETIME <= now:
            half = self._halves.pop(self._by_age.popleft().message_id)
            if half.state is State.LEASED:
                half.state = State.DEAD
                self.open -= 1


def _is_live(check: tuple[int, int, Entry]) -> bool:
    due, _, half = check
    return half.state is State.LEASED and half.next_consume_time == due
