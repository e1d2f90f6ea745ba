"""Promise 1: acked is what is confirmed, and nothing else."""

import math

from bridge.delivery.lease import margin
from simulation import story
from simulation.invariants.bounds import CLOCK_SECONDS, ROOM_FOR_ALL
from simulation.invariants.confirmations import Confirmations
from simulation.plan import ClockSet, Fault, Message, Plan
from simulation.story import Delivered


class NoAckBeforeConfirmation(Confirmations):
    """Promise 1: acked is only what every sink, or the dead letters in its place, has confirmed to the same process."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._written: set[Message] = set()
        self._known_to_somebody: set[tuple[Message, str]] = set()

    def on_told(self, at: float, entry: story.Told) -> None:
        super().on_told(at, entry)
        message = entry.delivered.message
        self._known_to_somebody.update((message, sink) for sink in self._confirmed[entry.life, message])

    def on_written(self, _: float, entry: story.Written) -> None:
        self._written.add(entry.delivered.message)

    def on_shared(self, _: float, entry: story.Shared) -> str | None:
        untrue = [sink for sink in entry.sinks if (entry.message, sink) not in self._known_to_somebody]
        return f"{entry.life} tells the others that {entry.message} is confirmed by {untrue}" if untrue else None

    def on_acking(self, _: float, entry: story.Acking) -> str | None:
        for delivered in entry.deliveries:
            if missing := self._missing(entry.life, delivered.message):
                return f"{entry.life} acks {delivered}, and was not told that it is confirmed by {', '.join(sorted(missing))}"
            if delivered.message not in self._written:
                return f"{entry.life} acks {delivered}, which is written nowhere"
        return None


class ConfirmedIsAcked(Confirmations):
    """Promise 1, its other side: what is confirmed in time is acked in time, or the broker was asked to at least."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        # an ack is begun by the middle of the margin
        self._early = margin(plan.lease, plan.rules.lease_margin_seconds) / 2 + CLOCK_SECONDS
        # what finds no room is left; without a margin there is no time for an ack after the last answer; and a shard that went
        # on past what could not be read waits for it when it comes again
        waits = plan.rules.ordered and any(message.damage is not None for message in plan.load)
        self._holds = plan.rules.max_bytes >= ROOM_FOR_ALL and plan.rules.lease_margin_seconds != 0 and not waits
        self._out: dict[Message, tuple[str, Delivered, float]] = {}
        self._known_at: dict[tuple[str, Message], float] = {}
        self._received: dict[Delivered, float] = {}
        self._asked: set[Delivered] = set()
        self._ordered = plan.rules.ordered
        self._acks: dict[tuple[str, int], tuple[float, float]] = {}  # from when to when they were out
        self._excused: set[str] = set()

    def on_polled(self, at: float, entry: story.Polled) -> None:
        self._received.update(dict.fromkeys(entry.deliveries, at))

    def on_told(self, at: float, entry: story.Told) -> None:
        super().on_told(at, entry)
        message = entry.delivered.message
        if not self._missing(entry.life, message):
            self._known_at.setdefault((entry.life, message), at)

    def on_acking(self, at: float, entry: story.Acking) -> None:
        self._asked.update(entry.deliveries)
        self._acks[entry.life, entry.call] = at, math.inf

    def on_ackanswered(self, at: float, entry: story.AckAnswered) -> None:
        begun, _ = self._acks[entry.life, entry.call]
        self._acks[entry.life, entry.call] = begun, at

    def on_faulted(self, _: float, entry: story.Faulted) -> None:
        if entry.fault is Fault.SLOW:  # then the lease may look shorter than it is
            self._excused.add(entry.life)

    def on_froze(self, _: float, entry: story.Froze) -> None:
        self._excused.add(entry.life)

    def on_died(self, _: float, entry: story.Died) -> None:
        self._excused.add(entry.life)

    def on_draining(self, _: float, entry: story.Draining) -> None:
        self._excused.add(entry.life)

    def on_incided(self, _: float, entry: story.Incided) -> None:
        if isinstance(entry.incident, ClockSet):  # so too then, until the next answer that comes soon
            self._holds = False

    def on_handedout(self, _: float, entry: story.HandedOut) -> str | None:
        message = entry.delivered.message
        before = self._out.get(message)
        self._out[message] = entry.life, entry.delivered, entry.lease_end
        if before is None or not self._holds or message.damage is not None:  # then it may not be known again
            return None
        life, delivered, lease_end = before
        if delivered not in self._received or delivered in self._asked or life in self._excused:
            return None
        known_at = self._known_at.get((life, message))
        if known_at is None or max(known_at, self._received[delivered]) > lease_end - self._early:
            return None
        if self._ordered and self._waited_for_an_ack(life, known_at, lease_end - self._early):
            return None
        return f"{life} has never tried to ack {delivered}, although it was confirmed at {known_at:.3f}"

    def _waited_for_an_ack(self, life: str, since: float, until: float) -> bool:
        """A shard's confirmations are acked one request after the other, and a lost answer takes longer than a lease."""
        return any(begun <= since and until <= answered for (of, _), (begun, answered) in self._acks.items() if of == life)
