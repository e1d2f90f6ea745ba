"""The topics that are written to: whether they are there, how much they take at once, and what a failure there means."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from aiokafka import AIOKafkaProducer, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from bridge.errors import SinkDownError
from bridge.sinks import Again, Refused
from bridge.sinks.kafka.records import Record

T = TypeVar("T")

Verdict = Refused | Again | SinkDownError
"""What a failure means: (one of) the records will never be taken; try again; or Kafka itself has trouble."""

CREATION_PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds between looks for a topic: a broker that creates topics by itself says at first that there is none."""
AVOID_SECONDS = 5.0
"""For how long a topic that a template named is not tried again when it is missing or forbidden."""
LIMIT_SECONDS = 5.0
"""How old the known `max.message.bytes` may be when a record is refused for it."""

_TOPIC_RESOURCE = 2  # Kafka's ConfigResource.Type
_CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # as the attributes of a record batch have them


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka ships no types
    """The broker looked at a record and won't have it, such as one without a key in a compacted topic."""

    errno, message, description = 87, "INVALID_RECORD", "the broker won't take it as it is"


class UnsupportedCompressionTypeError(errors.BrokerResponseError):  # type: ignore[misc]  # as above
    """The topic doesn't take this compression."""

    errno, message, description = 76, "UNSUPPORTED_COMPRESSION_TYPE", "see COMPRESSION"


for _error in (InvalidRecordError, UnsupportedCompressionTypeError):  # aiokafka knows neither, and says UnknownError
    errors.kafka_errors.setdefault(_error.errno, _error)

_NOT_THERE_YET = (errors.UnknownTopicOrPartitionError, errors.LeaderNotAvailableError)
_TROUBLE_OF_TOPIC = (*_NOT_THERE_YET, errors.TopicAuthorizationFailedError, errors.InvalidTopicError)
_TROUBLE_OF_KAFKA = (
    errors.ClusterAuthorizationFailedError,
    errors.UnsupportedForMessageFormatError,
    UnsupportedCompressionTypeError,
)


@dataclass(slots=True, eq=False)
class Topic:
    """What is known of a topic that exists."""

    name: str
    limit: int
    """Its `max.message.bytes`, the most that a batch may take as it is sent; the largest of numbers where we may not ask."""
    asked_at: float
    """When that was asked, on the event loop's clock."""
    sticky: int | None = field(default=None, init=False)
    """The partition that records without a key go to, until its batch goes out."""


class Topics:
    """What is known of the topics so far.

    `only` is the one that all records go to; None where a template names them, so that what is wrong with one of them concerns
    its records alone. `explain` says what an error of aiokafka's means.
    """

    def __init__(self, only: str | None, compression: str, explain: Callable[[BaseException], str]) -> None:
        self._only = only
        self._codec = _CODECS[compression]
        self._explain = explain
        self._found: dict[str, Topic] = {}
        self._avoided: dict[str, tuple[float, type[Exception]]] = {}  # until when, on the event loop's clock, and why

    def known(self, name: str, producer: AIOKafkaProducer) -> Topic | None:
        """The topic, if a producer can send to it at once."""
        return self._found.get(name) if producer.client.cluster.partitions_for_topic(name) else None

    async def find(self, name: str, producer: AIOKafkaProducer) -> Topic:
        """The topic, looked up if need be. Raises what Kafka says where there is none for us."""
        if topic := self.known(name, producer):
            return topic
        now = asyncio.get_running_loop().time
        until, said = self._avoided.get(name, (0.0, None))
        if said and now() < until:
            raise said
        await when_created(lambda: _look_up(name, producer.client))
        await producer.partitions_for(name)
        topic = self._found[name] = Topic(name, await _max_message_bytes(name, producer.client), now())
        return topic

    async def refuse_too_large(self, topic: Topic, records: Iterable[Record], client: AIOKafkaClient) -> None:
        """Refuse what the broker would: there it would take the whole batch with it (see `producers`)."""
        now = asyncio.get_running_loop().time
        for record in records:
            if record.size > topic.limit and now() > topic.asked_at + LIMIT_SECONDS:
                topic.limit, topic.asked_at = await _max_message_bytes(topic.name, client), now()
            if record.size > topic.limit and (size := self._exact_size(record)) > topic.limit:
                limit = f"max.message.bytes of the Kafka topic {topic.name!r} is {topic.limit}"
                record.settle(Refused(f"the record is too large: it has {size} bytes, and {limit}"))

    def _exact_size(self, record: Record) -> int:
        """In bytes, as a batch of its own, compressed as it will be."""
        builder = DefaultRecordBatchBuilder(2, self._codec, 0, -1, -1, 0, 0)
        builder.append(0, None, record.key, record.value, record.headers)
        return len(builder.build())

    def judge(self, name: str, problem: Exception) -> Verdict:
        """What a failure with a topic means, in this project's words."""
        text = f"Kafka topic {name!r}: {getattr(problem, 'description', None) or self._explain(problem)}"
        match problem:
            case SinkDownError():
                return problem
            case errors.MessageSizeTooLargeError() | errors.RecordListTooLargeError():
                self._found.pop(name, None)  # its limit isn't what we took it for
                return Refused(text)
            case InvalidRecordError():
                return Refused(text)
            case errors.UnknownTopicOrPartitionError():
                text = f"there is no Kafka topic {name!r}: create it, or see TOPIC"
            case errors.TopicAuthorizationFailedError():
                text = f"not allowed to write to the Kafka topic {name!r}: grant it to the user, or see TOPIC"
        if isinstance(problem, _TROUBLE_OF_TOPIC) and not self._only:
            self._avoid(name, type(problem))
            return Again(text)
        return SinkDownError(text) if isinstance(problem, (*_TROUBLE_OF_KAFKA, *_TROUBLE_OF_TOPIC)) else Again(text)

    def _avoid(self, name: str, error: type[Exception]) -> None:
        """Don't try a topic for `AVOID_SECONDS`."""
        now = asyncio.get_running_loop().time()
        self._found.pop(name, None)
        self._avoided = {other: entry for other, entry in self._avoided.items() if now < entry[0]}
        self._avoided.setdefault(name, (now + AVOID_SECONDS, error))


async def when_created(look: Callable[[], Awaitable[T]]) -> T:
    """What a look for a topic finds once it is there; what it raises after all of `CREATION_PAUSES`."""
    for pause in CREATION_PAUSES:
        try:
            return await look()
        except _NOT_THERE_YET:
            await asyncio.sleep(pause)
    return await look()


async def _look_up(name: str, client: AIOKafkaClient) -> None:
    metadata = await client.send(client.get_random_node(), MetadataRequest([name]))
    if (error := errors.for_code(metadata.topics[0][0])) is not errors.NoError:
        raise error


async def _max_message_bytes(name: str, client: AIOKafkaClient) -> int:
    """The limit of a topic in bytes; the largest of numbers where the right to DESCRIBE_CONFIGS is missing."""
    request = DescribeConfigsRequest([(_TOPIC_RESOURCE, name, ["max.message.bytes"])])
    answer = await client.send(client.get_random_node(), request)
    error, *_, entries = answer.resources[0]
    return int(entries[0][1]) if not error and entries else sys.maxsize
