"""Facts as the loops leave them behind in each state that the page can show, after some minutes of life."""

import math
import time
from collections.abc import Callable, Sequence

from bridge.watch.consumer import Backlog, Connection, Consumer, ConsumerStatus, Listed
from bridge.watch.facts import Component, Facts, Phase

STEP_SECONDS = 5.0


class Clock:
    """Runs as the real one does, and can be behind it."""

    def __init__(self, *, behind: float) -> None:
        self.behind = behind

    def __call__(self) -> float:
        return time.time() - self.behind


class Stage:
    """A bridge's life, told to facts as the loops would tell it. It ends now."""

    def __init__(self, *sinks: str, minutes: float = 14.0, dead_letters: bool = False) -> None:
        self._clock = Clock(behind=minutes * 60)
        self.facts = Facts(sinks, dead_letters=dead_letters, wall_clock=self._clock, monotonic=self._clock)
        self._sinks = list(self.facts.sinks.values())

    def runs(self) -> None:
        """Everything has opened, and the first poll has come back empty."""
        self.facts.phase = Phase.RUNNING
        self.facts.pollers = 1
        self.facts.counts.polls["empty"] += 1
        for component in (self.facts.rocketmq, self.facts.acks, *self._sinks, *filter(None, [self.facts.dead_letter])):
            component.works()

    def flows(self, minutes: float, *, per_minute: float, latency_seconds: float = 0.04) -> None:
        """So many messages a minute come and go, more and less in turn."""
        self._live(minutes, lambda step: self._pass(per_minute * (1 + 0.25 * math.sin(step / 4)), latency_seconds))

    def idles(self, minutes: float) -> None:
        """Nothing comes."""
        self.facts.leases = {}
        self._live(minutes, lambda _: self.facts.counts.polls.update(empty=1))

    def _live(self, minutes: float, act: Callable[[int], None]) -> None:
        for step in range(round(minutes * 60 / STEP_SECONDS)):
            self.facts.history.add(self.facts.sample())
            self._clock.behind -= STEP_SECONDS
            act(step)

    def _pass(self, per_minute: float, latency_seconds: float) -> None:
        facts, messages = self.facts, round(per_minute * STEP_SECONDS / 60)
        for name in ("received", "confirmed", "acked"):
            setattr(facts.counts, name, getattr(facts.counts, name) + messages)
        facts.counts.polls["messages"] += math.ceil(messages / 16)
        facts.counts.ack_calls += math.ceil(messages / 16)
        facts.counts.delivered_units += messages
        for _ in range(messages):
            facts.latency_seconds.observe(latency_seconds)
        for sink in self._sinks:
            sink.works()
            sink.confirmed += messages
        self.holds(messages // 4)

    def holds(self, messages: int, *, for_seconds: float = 1.0, lease_seconds: float = 300.0) -> None:
        """So many messages are in hand, since so long."""
        ends = self._clock() + lease_seconds - for_seconds
        self.facts.lease_seconds = lease_seconds
        self.facts.leases = {f"receipt {number}": ends + number * 0.1 for number in range(messages)}

    def is_watched(self, connections: Sequence[Connection], *, backlog: int, delay_seconds: float) -> None:
        """The management API has answered."""
        self.facts.management = Component("management", wall_clock=self._clock)
        self.facts.management.works()
        self.facts.consumer = Consumer(
            status=ConsumerStatus.ONLINE,
            checked_at=self._clock(),
            listed=Listed(connections=tuple(connections), number=len(connections), model="CLUSTERING"),
            backlog=Backlog(online=True, messages=backlog, delay_seconds=delay_seconds),
        )


NO_BROKERS = (
    "no connection to Kafka: none of the brokers kafka-0.kafka:9092, kafka-1.kafka:9092 can be reached (Connection refused); "
    "check BRIDGE_KAFKA__BOOTSTRAP_SERVERS"
)


def flowing() -> Facts:
    stage = Stage("kafka", "webhook", dead_letters=True)
    stage.runs()
    connections = [
        Connection(client_id=f"10.0.3.{host}@4711#-1729", address=f"10.0.3.{host}:51884", language="HTTP", version="V4_9_7")
        for host in (11, 12, 17)
    ]
    stage.is_watched(connections, backlog=12_345, delay_seconds=247)
    stage.flows(14, per_minute=1200)
    stage.facts.pollers = 3
    stage.facts.counts.polls["empty"] += 12
    stage.facts.counts.dead_letters["refused"] += 3
    stage.facts.counts.refused += 3
    stage.facts.counts.retried += 41
    stage.facts.beside = 2
    if stage.facts.dead_letter:
        stage.facts.dead_letter.confirmed += 3
    stage.holds(32)
    return stage.facts


def idle() -> Facts:
    stage = Stage("stdout")
    stage.runs()
    stage.flows(2, per_minute=30)
    stage.idles(12)
    return stage.facts


def sink_down() -> Facts:
    stage = Stage("kafka", "webhook", dead_letters=True)
    stage.runs()
    stage.flows(9, per_minute=400)
    stage.facts.sinks["kafka"].fails(NO_BROKERS)
    stage.facts.paused = "the sink is down"
    stage.facts.counts.left["not confirmed"] += 16
    stage.idles(5)
    return stage.facts


def not_connected() -> Facts:
    stage = Stage("kafka")
    stage.runs()
    stage.flows(11, per_minute=80)
    stage.facts.rocketmq.fails(
        "polling: 403 InvalidAccessKeyId: the access key is not known; check BRIDGE_ROCKETMQ__ACCESS_KEY_ID and "
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET"
    )
    stage.idles(3)
    return stage.facts


def draining() -> Facts:
    stage = Stage("kafka")
    stage.runs()
    stage.flows(14, per_minute=700)
    stage.holds(12)
    stage.facts.phase = Phase.DRAINING
    return stage.facts


def unacked() -> Facts:
    stage = Stage("kafka")
    stage.runs()
    stage.flows(14, per_minute=700)
    stage.facts.acks.fails("acking: no answer within 5 s")
    stage.holds(200)
    return stage.facts


def waiting() -> Facts:
    stage = Stage("webhook")
    stage.runs()
    stage.idles(14)
    stage.holds(1, for_seconds=70)
    return stage.facts


def stuck() -> Facts:
    stage = Stage("kafka")
    stage.runs()
    stage.flows(14, per_minute=700)
    stage.facts.loop_stuck_seconds = 63.0
    return stage.facts
