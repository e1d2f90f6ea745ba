"""What is measured: each candidate takes messages from the source to somewhere, and acks them."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Final

from bench import peers, programs, sinks
from bench.peers import Peer
from bench.programs import OTHER_CORE, TESTED_CORE, Program
from bench.surroundings import Surroundings
from bench.topics import Topic

FLOOR_POLLERS = 8
"""As many as the bridge has by default."""

_COMMON_SETTINGS = {
    "BRIDGE_ROCKETMQ__INSTANCE_ID": "MQ_INST_1",
    "BRIDGE_ROCKETMQ__GROUP_ID": "GID_bench",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET",
    "BRIDGE_HTTP__HOST": "127.0.0.1",
    "BRIDGE_HTTP__PORT": "0",
    "BRIDGE_LOG__FORMAT": "json",
}

Start = Callable[[Surroundings, Topic, int | None], AbstractContextManager[Program]]
"""Runs a candidate while its block lasts; the number is of its workers, where it leaves them to choose."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing to measure."""

    title: str
    start: Start
    warm_up_seconds: float = 2.0
    """From its first ack until it is steady."""
    workers: Sequence[int] = ()
    """The numbers of workers to choose the best from."""


@contextmanager
def drain(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
    """What shows how fast the source is."""
    command = [sys.executable, "-m", "bench.drain", str(around.source.service.port), str(topic)]
    with programs.running("drain", command) as program:
        yield program


@contextmanager
def floor(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
    """GET and DELETE, and nothing in between."""
    command = [sys.executable, "-m", "bench.floor", around.source.endpoint, str(topic), str(FLOOR_POLLERS)]
    if topic.pace is not None:
        command.append("--real-handles")
    with programs.running("floor", command) as program:
        yield program


@contextmanager
def bridge(
    around: Surroundings,
    topic: Topic,
    sink: str,
    of_sink: Mapping[str, str],
    *,
    ordered: bool = False,
    cores: Sequence[int] = (TESTED_CORE,),
    stdout: int = subprocess.DEVNULL,
    name: str = "bridge",
) -> Iterator[Program]:
    """The bridge, started as its users start it; the sink's settings by their names without `BRIDGE_<SINK>__`."""
    sinks.register(programs.CACHE / "sinks")
    settings = _COMMON_SETTINGS | {f"BRIDGE_{sink.upper()}__{name}": value for name, value in of_sink.items()}
    settings |= {
        "BRIDGE_ROCKETMQ__ENDPOINT": around.source.endpoint,
        "BRIDGE_ROCKETMQ__TOPIC": str(topic),
        "BRIDGE_ROCKETMQ__ORDERED": str(ordered).lower(),
        "BRIDGE_SINK": sink,
    }
    command = [sys.executable, "-m", "bridge", "run"]
    with programs.running(name, command, environment=settings, cores=cores, stdout=stdout) as program:
        yield program


@contextmanager
def to_nothing(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
    """The bridge, with a sink that confirms at once."""
    with bridge(around, topic, "nothing", {}) as program:
        yield program


@contextmanager
def to_dev_null(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
    """The bridge, to a stdout that is /dev/null."""
    with bridge(around, topic, "stdout", {}) as program:
        yield program


@contextmanager
def to_pipe(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
    """The bridge, to a stdout that `cat` reads."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:  # noqa: S607 - POSIX has it
        assert reader.stdin
        with bridge(around, topic, "stdout", {}, stdout=reader.stdin.fileno()) as program:
            yield program


def to_kafka(*, ordered: bool = False, cores: Sequence[int] = (TESTED_CORE,), name: str = "bridge") -> Start:
    """The bridge, into Kafka; `name` is that of its log."""

    @contextmanager
    def start(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
        with around.kafka_topic(topic) as kafka_topic:
            of_sink = {"BOOTSTRAP_SERVERS": around.broker.address(), "TOPIC": kafka_topic}
            with bridge(around, topic, "kafka", of_sink, ordered=ordered, cores=cores, name=name) as program:
                yield program

    return start


@contextmanager
def to_kafka_scraped(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
    """The bridge, into Kafka, its metrics read every second."""
    ended = threading.Event()
    with to_kafka()(around, topic, None) as program:
        scraping = threading.Thread(target=_scrape, args=(program, ended))
        scraping.start()
        try:
            yield program
        finally:
            ended.set()
            scraping.join()


def _scrape(program: Program, ended: threading.Event) -> None:
    while not (started := re.search(r'"health_port": (\d+)', program.log())):
        if ended.wait(0.1):
            return
    while not ended.wait(1.0):
        connection = HTTPConnection("127.0.0.1", int(started[1]), timeout=5)
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        connection.close()


def to_webhook(mode: str) -> Start:
    """The bridge, to a webhook."""

    @contextmanager
    def start(around: Surroundings, topic: Topic, _workers: int | None = None) -> Iterator[Program]:
        with programs.service("receiver") as receiver:
            of_sink = {"URL": f"http://127.0.0.1:{receiver.port}/events", "MODE": mode}
            with bridge(around, topic, "webhook", of_sink) as program:
                yield program

    return start


def peer(set_up: Callable[[], Peer]) -> Start:
    """One of the peers, into Kafka."""

    @contextmanager
    def start(around: Surroundings, topic: Topic, workers: int | None = None) -> Iterator[Program]:
        made = set_up()
        with around.kafka_topic(topic) as name:
            arguments = [around.source.endpoint, str(topic), around.broker.address(), name, str(workers or 1)]
            command = [*made.command, *arguments]
            with programs.running(f"peer-{set_up.__name__}", command, environment=made.environment) as program:
                yield program

    return start


CANDIDATES: Final[Mapping[str, Candidate]] = {
    "floor": Candidate(title="floor: aiohttp GET and DELETE", start=floor),
    "nothing": Candidate(title="bridge to nothing", start=to_nothing),
    "stdout-null": Candidate(title="bridge to stdout, /dev/null", start=to_dev_null),
    "stdout-pipe": Candidate(title="bridge to stdout, a pipe", start=to_pipe),
    "kafka": Candidate(title="bridge to Kafka", start=to_kafka()),
    "kafka-scraped": Candidate(title="bridge to Kafka, metrics read every second", start=to_kafka_scraped),
    "kafka-ordered": Candidate(title="bridge to Kafka, ordered", start=to_kafka(ordered=True)),
    "kafka-two": Candidate(
        title="bridge to Kafka, two processes on two cores", start=to_kafka(cores=(TESTED_CORE, OTHER_CORE))
    ),
    "webhook-batch": Candidate(title="bridge to a webhook, batches", start=to_webhook("batch")),
    "webhook-single": Candidate(title="bridge to a webhook, single events", start=to_webhook("structured")),
    "go": Candidate(title="Go peer (ours): net/http, encoding/xml, franz-go", start=peer(peers.go), workers=(8, 16, 32, 64)),
    "java": Candidate(
        title="official Java SDK, kafka-clients", start=peer(peers.java), warm_up_seconds=12.0, workers=(8, 16, 32)
    ),
    "python": Candidate(title="official Python SDK, confluent-kafka", start=peer(peers.python), workers=(2, 4, 8)),
    "node": Candidate(title="official Node.js SDK, kafkajs", start=peer(peers.node), warm_up_seconds=4.0, workers=(8, 16, 32)),
}
"""By the names that `--only` takes."""
