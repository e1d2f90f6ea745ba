"""Promises 7 and 8: nothing goes on and on."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from simulation import story
from simulation.plan import Plan
from simulation.story import Delivered


class CallsAreBounded:
    """Promise 7: nothing is asked again and again: no ack, no poll, and no sink."""

    WINDOW = 10.0

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._acks: Counter[Delivered] = Counter()
        self._answered: set[Delivered] = set()
        self._acking: dict[tuple[str, int], Sequence[Delivered]] = {}
        self._sends: Counter[tuple[str, Delivered]] = Counter()
        self._polls: dict[str, list[float]] = defaultdict(list)

    def on_acking(self, _: float, entry: story.Acking) -> str | None:
        self._acking[entry.life, entry.call] = entry.deliveries
        for delivered in entry.deliveries:
            if delivered in self._answered:
                return f"{entry.life} acks {delivered} again, although the broker has answered"
            self._acks[delivered] += 1
            if self._acks[delivered] > 8 + self._plan.lease / 2.5:  # pauses grow from 0.1 to 2.5 s at least
                return f"{entry.life} acks {delivered} for the {self._acks[delivered]}th time"
        return None

    def on_ackanswered(self, _: float, entry: story.AckAnswered) -> None:
        if entry.problem is None:
            self._answered.update(self._acking[entry.life, entry.call])

    def on_sent(self, _: float, entry: story.Sent) -> str | None:
        for delivered in entry.deliveries:
            self._sends[entry.sink, delivered] += 1
            times = self._sends[entry.sink, delivered]
            if times > 8 + self._plan.lease / 5:
                return f"{entry.life} sends {delivered} to {entry.sink} for the {times}th time within its lease"
        return None

    def on_polling(self, at: float, entry: story.Polling) -> str | None:
        polls = self._polls[entry.life] = [then for then in self._polls[entry.life] if then > at - self.WINDOW]
        polls.append(at)
        if len(polls) > 30 + 2 * self._plan.rules.max_pollers:
            return f"{entry.life} has polled {len(polls)} times within {self.WINDOW} s, for nothing"
        return None

    def on_polled(self, _: float, entry: story.Polled) -> None:
        if entry.deliveries:
            self._polls[entry.life].clear()


class EndsInTime:
    """Promise 8: a process that is told to end does so within its grace, without trouble, and does nothing afterwards."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._ended: set[str] = set()

    def on_draining(self, at: float, entry: story.Draining) -> None:
        self._due.setdefault(entry.life, at + entry.grace + 0.01)

    def on_froze(self, _: float, entry: story.Froze) -> None:
        self._due[entry.life] = float("inf")

    def on_ended(self, at: float, entry: story.Ended) -> str | None:
        self._ended.add(entry.life)
        if entry.how:
            return f"{entry.life} ended with {entry.how}"
        if entry.life not in self._due:
            return f"{entry.life} ended without having been told to"
        if at > self._due[entry.life]:
            return f"{entry.life} ended at {at:.3f}, and its grace at {self._due[entry.life]:.3f}"
        return None

    def on_polling(self, _: float, entry: story.Polling) -> str | None:
        return self._after_the_end(entry.life, "polls")

    def on_sent(self, _: float, entry: story.Sent) -> str | None:
        return self._after_the_end(entry.life, "sends")

    def on_acking(self, _: float, entry: story.Acking) -> str | None:
        return self._after_the_end(entry.life, "acks")

    def _after_the_end(self, life: str, does: str) -> str | None:
        return f"{life} has ended, and {does}" if life in self._ended else None
