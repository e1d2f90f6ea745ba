"""Promises 2 and 3: what is handed to a sink, and until when."""

from collections import Counter
from collections.abc import Sequence

from simulation import story
from simulation.plan import ClockSet, Fault, Frozen, Plan
from simulation.story import Delivered, Letter, in_words


class NothingPastItsDeadline:
    """Promise 3: nothing is handed to a sink at or past its deadline, which lies within the lease as the broker sees it."""

    def __init__(self, plan: Plan) -> None:
        self._lease_ends: dict[Delivered, float] = {}
        self._thawed_at: dict[str, float] = {}
        # how far the broker's clock was set can be seen only from answers that come soon
        self._sees_clock_set = Fault.SLOW not in plan.rates and not any(isinstance(i, Frozen) for i in plan.incidents)
        self._clock_sets = 0

    def on_handedout(self, _: float, entry: story.HandedOut) -> None:
        if self._sees_clock_set or not self._clock_sets:
            self._lease_ends[entry.delivered] = entry.lease_end

    def on_incided(self, _: float, entry: story.Incided) -> None:
        if isinstance(entry.incident, ClockSet) and entry.incident.replica is None:
            self._clock_sets += 1
            self._lease_ends.clear()  # for those that are out, nobody could know

    def on_thawed(self, at: float, entry: story.Thawed) -> None:
        self._thawed_at[entry.life] = at

    def on_sent(self, at: float, entry: story.Sent) -> str | None:
        if self._thawed_at.get(entry.life) == at:  # the sink itself looks at the deadline once more
            return None
        if at >= entry.deadline:
            return f"{entry.life} sends {in_words(entry.deliveries)} past the deadline at {entry.deadline:.3f}"
        # Milliseconds were rounded; and that a clock is set again, after no more than a long poll has told of the first time,
        # shows only when it makes more than the second to which a Date is told.
        unknowable = 0.002 if self._clock_sets < 2 else 1.002
        for delivered in entry.deliveries:
            lease_end = self._lease_ends.get(delivered)
            if lease_end is not None and entry.deadline > lease_end + unknowable:
                return f"{entry.life} may send {delivered} until {entry.deadline:.3f}, and its lease ends at {lease_end:.3f}"
        return None


class NotSentAgain:
    """Promise 2: what a sink has confirmed, or has not answered yet, is not sent to it again by the same process; nor, within
    one lease, what it has refused (promise 6), but for the one time more that tells refusals from an outage."""

    def __init__(self, plan: Plan) -> None:
        self._last: dict[tuple[str, str, str], str] = {}
        self._letters: dict[tuple[str, str, str], Letter | None] = {}
        self._out: set[Delivered] = set()
        self._stale: set[Delivered] = set()
        """Deliveries that were out when the broker's clock was set: they may come after a later one."""
        self._calls: dict[tuple[str, int | None], Sequence[Delivered]] = {}
        self._refusals: Counter[tuple[str, Delivered]] = Counter()
        self._most_refusals = 2 if plan.dead_letters else 1

    def on_sent(self, _: float, entry: story.Sent) -> str | None:
        self._calls[entry.sink, entry.call] = entry.deliveries
        for delivered, letter in zip(entry.deliveries, entry.letters, strict=True):
            who = entry.life, entry.sink, delivered.identity
            last = self._last.get(who)
            another = letter is not None and letter != self._letters.get(who)
            if another and last == "confirmed":  # another sink has refused it since
                last = None
            self._letters[who] = letter
            if delivered in self._stale:
                continue
            if last == "confirmed":
                return f"{entry.life} sends {delivered} to {entry.sink}, which has confirmed it"
            if last == "unknown":
                return f"{entry.life} sends {delivered} to {entry.sink}, whose answer to the last time is still out"
            if self._refusals[entry.sink, delivered] >= self._most_refusals:
                return f"{entry.life} sends {delivered} to {entry.sink}, which has refused it within this lease"
            self._last[who] = "unknown"
        return None

    def on_handedout(self, _: float, entry: story.HandedOut) -> None:
        self._out.add(entry.delivered)

    def on_incided(self, _: float, entry: story.Incided) -> None:
        if isinstance(entry.incident, ClockSet):
            self._stale |= self._out

    def on_recalled(self, _: float, entry: story.Recalled) -> None:
        for sink in entry.sinks:
            self._last[entry.life, sink, entry.identity] = "confirmed"

    def on_told(self, _: float, entry: story.Told) -> None:
        self._last[entry.life, entry.sink, entry.delivered.identity] = entry.outcome
        if entry.outcome == "refused":
            self._refusals[entry.sink, entry.delivered] += 1

    def on_sinkdown(self, _: float, entry: story.SinkDown) -> None:
        for delivered in self._calls.get((entry.sink, entry.call), ()):
            self._last[entry.life, entry.sink, delivered.identity] = "down"


class NoSendIsCancelled:
    """Promise 3: what was handed over is followed to its end."""

    def on_sendcancelled(self, _: float, entry: story.SendCancelled) -> str:
        return f"{entry.life} has cancelled a send to {entry.sink}"


class OpensOnce:
    """The contract of a sink: it is opened before anything else, by one at a time, and never again once it is open."""

    def __init__(self) -> None:
        self._state: dict[tuple[str, str], str] = {}

    def on_opening(self, _: float, entry: story.Opening) -> str | None:
        state = self._state.get((entry.life, entry.sink), "closed")
        self._state[entry.life, entry.sink] = "opening"
        return None if state == "closed" else f"{entry.life} opens {entry.sink}, which is {state}"

    def on_opened(self, _: float, entry: story.Opened) -> None:
        self._state[entry.life, entry.sink] = "open"

    def on_opencancelled(self, _: float, entry: story.OpenCancelled) -> None:
        self._state[entry.life, entry.sink] = "closed"

    def on_sinkdown(self, _: float, entry: story.SinkDown) -> None:
        if self._state.get((entry.life, entry.sink)) == "opening":
            self._state[entry.life, entry.sink] = "closed"

    def on_sent(self, _: float, entry: story.Sent) -> str | None:
        state = self._state.get((entry.life, entry.sink), "closed")
        return None if state == "open" else f"{entry.life} sends to {entry.sink}, which is {state}"
