"""How much later a message is acked because the bridge stands in the way, at 1,000 messages a second.

The source publishes a message every millisecond and hands it to a poll that waits, or to the next one. A message's time runs
from its being published to its ack being there, both seen by the source. From that is taken off what the other side of the sink
took for its answer, as seen by that other side itself (`bench.witness`): the webhook's receiver, or a relay before Kafka.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import programs
from bench.candidates import bridge, floor
from bench.measuring import wait_for_acks
from bench.programs import BenchError, Program
from bench.surroundings import Surroundings
from bench.topics import Topic
from bench.witness import answer_seconds

MESSAGES_A_SECOND = 1_000
WARM_UP_SECONDS = 3.0
SINKS = ("nothing", "kafka", "webhook")


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In seconds."""

    p50: float
    p99: float
    p999: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Percentiles":
        """Each is the smallest value that so many of them don't exceed."""
        ordered = sorted(values)
        p50, p99, p999 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99, 0.999))
        return cls(p50, p99, p999)

    def over(self, floor: "Percentiles") -> "Percentiles":
        """How much each is above that of the floor."""
        return Percentiles(self.p50 - floor.p50, self.p99 - floor.p99, self.p999 - floor.p999)


def of_floor(around: Surroundings, *, seconds: float) -> Percentiles:
    """GET and DELETE alone."""
    topic = around.topic(pace=MESSAGES_A_SECOND)
    with floor(around, topic) as program:
        return Percentiles.of(list(_watch(program, around, topic, seconds).values()))


def of_bridge(around: Surroundings, sink: str, *, seconds: float) -> Percentiles:
    """The bridge to one of SINKS, without the time that the sink's other side took."""
    topic = around.topic(pace=MESSAGES_A_SECOND)
    with ExitStack() as stack:
        witness = None
        of_sink: dict[str, str] = {}
        if sink == "kafka":
            witness = stack.enter_context(programs.service("relay", str(around.broker.ports["PLAINTEXT"])))
            name = stack.enter_context(around.kafka_topic(topic))
            of_sink = {"BOOTSTRAP_SERVERS": f"localhost:{witness.port}", "TOPIC": name}
        elif sink == "webhook":
            witness = stack.enter_context(programs.service("receiver"))
            of_sink = {"URL": f"http://127.0.0.1:{witness.port}/events"}
        with bridge(around, topic, sink, of_sink) as program:
            took = _watch(program, around, topic, seconds)
        if witness is None:
            return Percentiles.of(list(took.values()))
        return Percentiles.of(list(less(took, answer_seconds(witness.finish())).values()))


def less(took: Mapping[str, float], answers: Mapping[str, float]) -> dict[str, float]:
    """What each message took without the answer that it waited for. Raises KeyError when one has none."""
    return {name: seconds - answers[name] for name, seconds in took.items()}


def _watch(program: Program, around: Surroundings, topic: Topic, seconds: float) -> dict[str, float]:
    """From published to acked, in seconds, by message id."""
    wait_for_acks(program, around.source, topic)
    since = time.monotonic() + WARM_UP_SECONDS
    time.sleep(WARM_UP_SECONDS + seconds)
    program.check()
    messages = around.source.latencies(topic)
    took = {name: acked_at - published_at for name, published_at, acked_at in messages if published_at >= since}
    if not took:
        raise BenchError(f"it doesn't keep up with {MESSAGES_A_SECOND:,} messages a second here")
    return took
