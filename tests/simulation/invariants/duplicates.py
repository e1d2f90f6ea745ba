"""Promise 2: what is written twice, and why."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from simulation import story
from simulation.invariants.bounds import CLOCK_SECONDS, ROOM_FOR_ALL
from simulation.plan import ClockSet, Fault, Message, Plan
from simulation.story import Delivered, Letter


@dataclass(slots=True, eq=False)
class _Passage:
    """One event's way to a sink, once."""

    life: str
    delivered: Delivered
    letter: Letter | None
    sent_at: float
    outcome: str = "unknown"
    fault: Fault | None = None
    told_at: float | None = None


class DuplicatesAreForced:
    """An event is written twice by a sink only where a fault forced that, and the fault has a name."""

    def __init__(self, plan: Plan) -> None:
        self.named: Counter[str] = Counter()
        self._coupled = len(plan.sinks) > 1 or plan.dead_letters
        self._slow_network = Fault.SLOW in plan.rates
        self._little_room = plan.rules.max_bytes < ROOM_FOR_ALL
        self._calls: dict[tuple[str, int | None], list[_Passage]] = {}
        self._written: dict[tuple[str, Message], list[_Passage]] = defaultdict(list)
        self._lease_ends: dict[Delivered, float] = {}
        self._acked: set[tuple[str, Message]] = set()
        self._stopped: dict[str, str] = {}
        self._clock_was_set = False

    def on_handedout(self, _: float, entry: story.HandedOut) -> None:
        self._lease_ends[entry.delivered] = entry.lease_end

    def on_sent(self, at: float, entry: story.Sent) -> None:
        sent = zip(entry.deliveries, entry.letters, strict=True)
        self._calls[entry.sink, entry.call] = [_Passage(entry.life, delivered, letter, at) for delivered, letter in sent]

    def on_told(self, at: float, entry: story.Told) -> None:
        passage = self._passage(entry.sink, entry.call, entry.delivered)
        passage.outcome, passage.fault, passage.told_at = entry.outcome, entry.fault, at

    def on_sinkdown(self, at: float, entry: story.SinkDown) -> None:
        for passage in self._calls.get((entry.sink, entry.call), ()):
            passage.outcome, passage.fault, passage.told_at = "down", Fault.DOWN_THOUGH_WRITTEN, at

    def on_acking(self, _: float, entry: story.Acking) -> None:
        self._acked.update((entry.life, delivered.message) for delivered in entry.deliveries)

    def on_died(self, _: float, entry: story.Died) -> None:
        self._stopped[entry.life] = "its process died"

    def on_froze(self, _: float, entry: story.Froze) -> None:
        self._stopped[entry.life] = "its process was frozen"

    def on_draining(self, _: float, entry: story.Draining) -> None:
        self._stopped.setdefault(entry.life, "its process was told to end")

    def on_incided(self, _: float, entry: story.Incided) -> None:
        self._clock_was_set |= isinstance(entry.incident, ClockSet)

    def on_written(self, _: float, entry: story.Written) -> str | None:
        now = self._passage(entry.sink, entry.call, entry.delivered)
        passages = self._written[entry.sink, entry.delivered.message]
        for before in passages:
            if before.letter != now.letter:
                continue  # that says something else
            first, second = sorted((before, now), key=lambda passage: passage.sent_at)
            cause = self._cause(first, second)
            if cause is None:
                both = f"{first.delivered} of {first.life} and {second.delivered} of {second.life}"
                return f"{entry.sink} has {both}, and nothing forced it"
            self.named[cause] += 1
        passages.append(now)
        return None

    def _passage(self, sink: str, call: int, delivered: Delivered) -> _Passage:
        return next(passage for passage in self._calls[sink, call] if passage.delivered == delivered)

    def _cause(self, before: _Passage, now: _Passage) -> str | None:
        """What kept the first from being acked, or from being known to whoever sent it the second time."""
        stopped = self._stopped.get(before.life)
        if before.outcome != "confirmed":
            said = before.fault.value if before.fault else "no answer yet"
            return stopped if before.outcome == "unknown" and stopped else said
        if before.life == now.life:  # NotSentAgain tells whether the process could know
            # An answer was under way until its message had been given out again, and acked; its lease looks as if it held.
            overtaken = now.delivered.times < before.delivered.times
            return "a clock was set" if overtaken and self._clock_was_set else None
        late = before.told_at is not None and before.told_at > self._lease_ends[before.delivered] - CLOCK_SECONDS
        causes = {
            "its ack failed": (before.life, before.delivered.message) in self._acked,
            stopped: stopped is not None,
            "it was confirmed at the end of its lease": late,
            "another sink had not confirmed it": self._coupled,
            "there was no room to wait for its answer": self._little_room,
            "a clock was set": self._clock_was_set,
            "in a slow network its lease looked shorter": self._slow_network,
        }
        return next((cause for cause, was_so in causes.items() if was_so), None)


class TheLedgerIsShared:
    """Promise 2, with a store that is there: what one process knows and could not ack, another does not send again."""

    def __init__(self) -> None:
        self._stored: dict[Message, tuple[float, Sequence[str]]] = {}
        self._polled: dict[tuple[str, Delivered], float] = {}
        self._acking: dict[tuple[str, int], Sequence[Delivered]] = {}
        self._refused: set[Delivered] = set()
        self._due: dict[Message, tuple[str, float]] = {}
        self._interrupted: set[str] = set()

    def on_polled(self, at: float, entry: story.Polled) -> None:
        self._polled.update(dict.fromkeys(((entry.life, delivered) for delivered in entry.deliveries), at))

    def on_shared(self, at: float, entry: story.Shared) -> None:
        self._stored[entry.message] = at, entry.sinks
        self._due.pop(entry.message, None)

    def on_acking(self, _: float, entry: story.Acking) -> None:
        self._acking[entry.life, entry.call] = entry.deliveries

    def on_acktook(self, _: float, entry: story.AckTook) -> None:
        self._due.pop(entry.delivered.message, None)
        if entry.refusal is not None:
            self._refused.add(entry.delivered)

    def on_ackanswered(self, at: float, entry: story.AckAnswered) -> None:
        for delivered in self._acking[entry.life, entry.call]:
            if entry.problem is not None or delivered in self._refused:
                self._due.setdefault(delivered.message, (entry.life, at + 1.0))

    def on_died(self, _: float, entry: story.Died) -> None:
        self._interrupted.add(entry.life)

    def on_froze(self, _: float, entry: story.Froze) -> None:
        self._interrupted.add(entry.life)

    def on_sent(self, at: float, entry: story.Sent) -> str | None:
        for delivered in entry.deliveries:
            message = delivered.message
            if message.damage is not None:  # what has no id that can be read has another one then
                continue
            since, sinks = self._stored.get(message, (at, ()))
            if entry.sink in sinks and since < self._polled.get((entry.life, delivered), 0.0):
                return f"{entry.life} sends {delivered} to {entry.sink}, which has confirmed it, as the ledger says"
            life, due = self._due.get(message, (entry.life, at))
            told = entry.sink in sinks  # when an ack fails again, it isn't told again
            if life != entry.life and due < at and not told and life not in self._interrupted:
                return f"{entry.life} sends {delivered}, as {life} has not told that it could not ack it"
        return None
