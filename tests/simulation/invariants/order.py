"""Promise 5: order."""

from collections import defaultdict

from simulation import story
from simulation.invariants.confirmations import Confirmations
from simulation.plan import DEAD_LETTERS, Message, Plan
from simulation.story import in_words


class OrderHolds(Confirmations):
    """Promise 5: a shard's next event is sent when all before it are confirmed, and never two of a shard at once."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._shards: dict[str, list[Message]] = defaultdict(list)
        for message in plan.load:
            self._shards[message.shard].append(message)
        self._acked: set[Message] = set()
        self._unreadable: set[Message] = set()
        """Its shard is unknown then; what could not be read twice is not waited for."""

    def on_handedout(self, _: float, entry: story.HandedOut) -> None:
        message, times = entry.delivered
        if message.damage is not None and times > 1:
            self._unreadable.add(message)

    def on_acktook(self, _: float, entry: story.AckTook) -> None:
        if entry.refusal is None:
            self._acked.add(entry.delivered.message)

    def on_sent(self, at: float, entry: story.Sent) -> str | None:
        super().on_sent(at, entry)
        if entry.sink == DEAD_LETTERS:  # they have no order
            return None
        shards = [delivered.message.shard for delivered in entry.deliveries]
        if len(set(shards)) < len(shards):
            return f"{entry.life} sends several of a shard at once: {in_words(entry.deliveries)}"
        for delivered in entry.deliveries:
            message = delivered.message
            for earlier in self._shards[message.shard][: message.index]:
                if earlier not in self._acked and earlier not in self._unreadable and self._missing(entry.life, earlier):
                    return f"{entry.life} sends {delivered} of shard {message.shard!r} before {earlier} is confirmed"
        return None
