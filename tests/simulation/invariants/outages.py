"""Promises 4 and 6: outages, and what is not one."""

from collections import defaultdict

from simulation import story
from simulation.plan import DEAD_LETTERS, Message, Plan


class KnownOutages:
    """Which sinks have told a process that they are down, and since when; a confirmation ends it."""

    def __init__(self, plan: Plan) -> None:
        self._sinks = frozenset(plan.sinks)
        self._down: dict[str, dict[str, float]] = defaultdict(dict)
        self._up_at: dict[tuple[str, str], float] = {}

    def on_sinkdown(self, at: float, entry: story.SinkDown) -> None:
        # at the same instant, either may have been heard first
        if entry.sink in self._sinks and self._up_at.get((entry.life, entry.sink)) != at:
            self._down[entry.life].setdefault(entry.sink, at)

    def on_opened(self, at: float, entry: story.Opened) -> None:
        self._up(at, entry.life, entry.sink)

    def on_told(self, at: float, entry: story.Told) -> str | None:
        if entry.outcome == "confirmed":
            self._up(at, entry.life, entry.sink)
        return None

    def _up(self, at: float, life: str, sink: str) -> None:
        self._up_at[life, sink] = at
        self._down[life].pop(sink, None)

    def _is_down(self, life: str, at: float) -> bool:
        """Whether it has known of an outage since before this instant."""
        return any(since < at for since in self._down[life].values())


class NothingPolledInAnOutage(KnownOutages):
    """Promise 4: while a sink is down nothing is polled, but for one message at a time, ever more rarely."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._tried_at: dict[str, float] = {}

    def on_polling(self, at: float, entry: story.Polling) -> str | None:
        if not self._is_down(entry.life, at):
            return None
        if entry.most > 1:
            return f"{entry.life} polls for {entry.most} messages while a sink is down"
        last = self._tried_at.get(entry.life)
        self._tried_at[entry.life] = at
        if last is not None and at - last < 0.4:  # the first pause is half a second at least
            return f"{entry.life} polls at {last:.3f} and again at {at:.3f} while a sink is down"
        return None


class OneDeliveryPerOutage(KnownOutages):
    """Promise 4: an outage costs a message one delivery, and one more for each time that it was the one to try the sink."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._allowed: dict[Message, int] = {}
        self._may_cost = 1 + len(plan.incidents)
        self._trial: dict[str, bool] = {}

    def on_polling(self, at: float, entry: story.Polling) -> None:
        self._trial[entry.life] = entry.most == 1 and self._is_down(entry.life, at)

    def on_handedout(self, _: float, entry: story.HandedOut) -> str | None:
        message = entry.delivered.message
        allowed = self._allowed.setdefault(message, self._may_cost)
        if self._trial[entry.life]:
            self._allowed[message] = allowed = allowed + 1
        return f"the outage has cost {message} {entry.delivered.times} deliveries" if entry.delivered.times > allowed else None


class DeadLettersAreDeserved(KnownOutages):
    """Promise 6: a dead letter was refused, can't be read, or has failed once more, as often as is allowed, in no outage."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._max_deliveries = plan.rules.max_deliveries
        self._refused: set[tuple[str, str, Message]] = set()

    def on_told(self, at: float, entry: story.Told) -> None:
        super().on_told(at, entry)
        if entry.outcome == "refused":
            self._refused.add((entry.life, entry.sink, entry.delivered.message))

    def on_sent(self, at: float, entry: story.Sent) -> str | None:
        for delivered, letter in zip(entry.deliveries, entry.letters, strict=True):
            message = delivered.message
            if (letter is None) == (entry.sink == DEAD_LETTERS):
                return f"{delivered} goes to {entry.sink} as {letter}"
            if letter is None:
                continue
            if letter.reason == "refused" and any((entry.life, sink, message) not in self._refused for sink in letter.sinks):
                return f"{entry.life} buries {delivered} as {letter}, and it was not"
            if letter.reason == "damaged" and message.damage is None:
                return f"{entry.life} buries {delivered} as damaged, and it is not"
            if letter.reason == "deliveries" and (self._max_deliveries is None or delivered.times < self._max_deliveries):
                return f"{entry.life} buries {delivered}, of {self._max_deliveries} deliveries that are allowed"
            if letter.reason == "deliveries" and self._is_down(entry.life, at):
                return f"{entry.life} buries {delivered} while a sink is down"
        return None
