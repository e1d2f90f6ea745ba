"""What the programs under test talk to."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

from bench import programs
from bench.measuring import Source
from bench.programs import BenchError
from bench.topics import Topic
from kafka.broker import Broker, KafkaMissingError, running_broker

PARTITIONS = 4
MAX_RECORD_BYTES = 32 << 20
"""A body of 4 MB is larger than Kafka's own default lets through."""


class Surroundings:
    """Each thing is started when it is first asked for, and ends with the stack."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._runs = count(1)
        self._source: Source | None = None
        self._broker: Broker | None = None

    @property
    def source(self) -> Source:
        """The RocketMQ service."""
        if self._source is None:
            self._source = Source(self._stack.enter_context(programs.service("source")))
        return self._source

    @property
    def broker(self) -> Broker:
        """Kafka. Raises BenchError where it can't be run."""
        if self._broker is None:
            try:
                self._broker = self._stack.enter_context(running_broker())
            except KafkaMissingError as error:
                raise BenchError(str(error)) from error
        return self._broker

    def topic(self, kind: str = "json", body_bytes: int = 1024, pace: int | None = None) -> Topic:
        """One that nobody has consumed from."""
        return Topic(kind, body_bytes, pace, str(next(self._runs)))

    @contextmanager
    def kafka_topic(self, topic: Topic) -> Iterator[str]:
        """A new one of the same name, deleted afterwards, as a run writes gigabytes."""
        name, limit = str(topic), str(MAX_RECORD_BYTES)
        self.broker.create_topic(name, partitions=PARTITIONS, max_message_bytes=limit, file_delete_delay_ms="1000")
        try:
            yield name
        finally:
            self.broker.admin.delete_topics([name])[name].result(30)
