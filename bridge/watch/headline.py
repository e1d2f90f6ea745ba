"""The first thing that the page says: in one sentence, how the bridge is; when it is ill, also what that means."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from bridge.watch.event_loop import stuck
from bridge.watch.facts import Component, Facts, Phase, Status

FIRST_SECONDS = 10.0
"""Before so much of it has been seen, a flow is told as a number of messages: a rate would jump."""
SLOW_SECONDS = 10.0
"""How long a message may be in hand before it is said to wait."""


class State(Enum):
    """What the page shows by shape and colour, too; the page knows one more, of a bridge that doesn't answer."""

    STARTING = "starting"
    FLOWING = "flowing"
    IDLE = "idle"
    WAITING = "waiting"
    """Messages are in hand, and none has got through lately."""
    PAUSED = "paused"
    """A sink is down."""
    NOT_CONNECTED = "not connected"
    UNACKED = "unacked"
    DRAINING = "draining"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The sentence reads `word`: `text`, since `since`."""

    state: State
    word: str
    text: str
    since: float | None = None
    """In seconds since the epoch."""
    about: str | None = None
    """The component whose error and advice belong under it."""
    advice: str | None = None
    """Where it is about no component: what it means for the messages, and what to do."""


def headline(facts: Facts) -> Headline:
    """How the bridge is; of several troubles the one that is to be seen to first."""
    rules = (_stuck, _draining, _paused, _not_connected, _starting, _unacked, _flowing, _in_hand)
    return next(filter(None, (rule(facts) for rule in rules)), _idle(facts))


def _stuck(facts: Facts) -> Headline | None:
    if not stuck(facts):
        return None
    return Headline(
        state=State.STUCK,
        word="Stuck",
        text="the event loop has not turned",
        since=facts.wall_clock() - facts.loop_stuck_seconds,
        advice="nothing is polled, sent or acked meanwhile, and what is in hand comes again when its lease ends. The log says "
        "where in the code it is stuck; where /livez is probed, it is restarted. All else on this page is as it was then",
    )


def _draining(facts: Facts) -> Headline | None:
    if facts.phase is not Phase.DRAINING:
        return None
    in_hand = len(facts.lease_ends)
    return Headline(
        state=State.DRAINING,
        word="Draining",
        text=f"{_messages(in_hand)} in hand to see through, and then it ends" if in_hand else "no message in hand, and it ends",
        advice="no poll begins any more, and those that are out are waited for. What can't be finished within the grace is "
        "left to the broker, which delivers it again when its lease ends",
    )


def _paused(facts: Facts) -> Headline | None:
    down = [name for name, sink in facts.sinks.items() if sink.status is Status.FAILING]
    if not down:
        return None
    text = f"the sink {down[0]} is down" if len(down) == 1 else f"the sinks {_listed(down)} are down"
    if others := [name for name in facts.sinks if name not in down]:
        text += f", and {_listed(others)} {'waits' if len(others) == 1 else 'wait'} for {'it' if len(down) == 1 else 'them'}"
    return _trouble(State.PAUSED, "Paused", text, min((facts.sinks[name] for name in down), key=lambda sink: sink.since))


def _not_connected(facts: Facts) -> Headline | None:
    if facts.rocketmq.status is not Status.FAILING:
        return None
    return _trouble(State.NOT_CONNECTED, "Not connected", "the broker can't be polled", facts.rocketmq)


def _starting(facts: Facts) -> Headline | None:
    if facts.rocketmq.ok:
        return None
    opening = [name for name, sink in facts.sinks.items() if not sink.ok]
    text = f"opening {_listed(opening)}" if opening else "waiting for the broker's first answer"
    return Headline(state=State.STARTING, word="Starting", text=text, since=facts.started_at)


def _unacked(facts: Facts) -> Headline | None:
    if facts.acks.status is not Status.FAILING:
        return None
    return _trouble(State.UNACKED, "Delivering", "but what is delivered can't be acked", facts.acks)


def _flowing(facts: Facts) -> Headline | None:
    lately = facts.throughput
    if lately is None or not lately.acked_per_second:
        return None
    if lately.over_seconds < FIRST_SECONDS:
        so_much = f"{_messages(lately.acked_per_second * lately.over_seconds)} so far"
    else:
        so_much = f"{_messages(lately.acked_per_second * 60)} a minute"
    return Headline(state=State.FLOWING, word="Flowing", text=f"{so_much} to {_listed(list(facts.sinks))}")


def _in_hand(facts: Facts) -> Headline | None:
    ends, to_sinks = facts.lease_ends, _listed(list(facts.sinks))
    if not ends:
        return None
    held_seconds = (facts.lease_seconds or 0.0) - (min(ends) - facts.monotonic())
    if held_seconds < SLOW_SECONDS:
        return Headline(state=State.FLOWING, word="Flowing", text=f"{_messages(len(ends))} on the way to {to_sinks}")
    return Headline(
        state=State.WAITING,
        word="Waiting",
        text=f"{_messages(len(ends))} in hand, and none has got through in the last minute",
        advice=f"either {to_sinks} is slow to confirm, or fails on these very messages. Each is tried again while its lease "
        "lasts, and then comes again; the log says which, and why",
    )


def _idle(facts: Facts) -> Headline:
    last = max((sink.last_ok for sink in facts.sinks.values() if sink.last_ok), default=facts.started_at)
    return Headline(state=State.IDLE, word="Idle", text="connected, and nothing to deliver", since=last)


def _trouble(state: State, word: str, text: str, component: Component) -> Headline:
    return Headline(state=state, word=word, text=text, since=component.since, about=component.name)


def _messages(number: float) -> str:
    whole = max(1, round(number))  # one in two minutes is told as one a minute, and not as none
    return "1 message" if whole == 1 else f"{whole:,} messages"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
