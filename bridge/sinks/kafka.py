"""Events into Apache Kafka: idempotent, acknowledged by all in-sync replicas, gathered into large batches.

A record follows the CloudEvents Kafka binding, structured or binary. With a key, its partition is the one that Java clients
choose. How records become batches is told in `gathering`, how one gets into a cluster in `kafka_access`.
"""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from aiokafka import AIOKafkaProducer, codec
from aiokafka import errors as of_kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from pydantic import ByteSize, Field, field_validator

from bridge.errors import FixSettingsError, MissingExtraError, SinkDownError
from bridge.event import Event
from bridge.sinks import Again, Confirmed, Outcome, ProbedSink, Refused, Unknown
from bridge.sinks.gathering import CLOSED, METADATA_SECONDS, Gathering, Producers, Record, Sending, Topic, Verdict, settle, stop
from bridge.sinks.kafka_access import Access, AccessSettings

START_SECONDS = 10.0
"""How long a producer may take to start."""
PATIENCE_SECONDS = 15.0
"""How long a send waits for Kafka: leases are long, and an outage should show itself before they end."""
CLOSE_SECONDS = 0.8
"""How long closing waits for records that are on their way, and as long again for the producer to stop."""
CREATION_PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds between looks for a topic: a broker that creates topics by itself says at first that there is none."""
AVOID_SECONDS = 5.0
"""For how long a topic that a template named is not tried again when it is missing or forbidden."""
LIMIT_SECONDS = 5.0
"""How old the known `max.message.bytes` may be when a record is refused for it."""
REPEAT_SECONDS = 60.0
"""How often aiokafka may log the same thing."""

_PLACES = re.compile(r"\{(topic|tag|property:[^{}]+)\}")
_LEGAL_TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
_SHARDING_KEY, _MESSAGE_KEY = "__SHARDINGKEY", "KEYS"  # what RocketMQ calls them among the properties
_TOPIC_RESOURCE = 2  # Kafka's ConfigResource.Type
_CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # as the attributes of a record batch have them


class InvalidRecordError(of_kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka ships no types
    """The broker looked at a record and won't have it, such as one without a key in a compacted topic."""

    errno, message, description = 87, "INVALID_RECORD", "the broker won't take it as it is"


class UnsupportedCompressionTypeError(of_kafka.BrokerResponseError):  # type: ignore[misc]  # as above
    """The topic doesn't take this compression."""

    errno, message, description = 76, "UNSUPPORTED_COMPRESSION_TYPE", "see COMPRESSION"


for _error in (InvalidRecordError, UnsupportedCompressionTypeError):  # aiokafka knows neither, and says UnknownError
    of_kafka.kafka_errors.setdefault(_error.errno, _error)

_TOO_LARGE = (of_kafka.MessageSizeTooLargeError, of_kafka.RecordListTooLargeError)
_NOT_THERE_YET = (of_kafka.UnknownTopicOrPartitionError, of_kafka.LeaderNotAvailableError)
_TROUBLE_OF_TOPIC = (*_NOT_THERE_YET, of_kafka.TopicAuthorizationFailedError, of_kafka.InvalidTopicError)
_TROUBLE_OF_KAFKA = (
    of_kafka.ClusterAuthorizationFailedError,
    of_kafka.UnsupportedForMessageFormatError,
    UnsupportedCompressionTypeError,
)


class KafkaSettings(AccessSettings):
    """What is written, and where; and client options by the names that Kafka users know."""

    topic: str = Field(
        description="the topic to write to; or a template over the message: {topic}, {tag}, {property:NAME}, as in orders-{tag}"
    )
    key: str = Field(
        default="auto",
        pattern=r"^(auto|sharding|id|none|property:.+)$",
        description="the key of a record: auto (the sharding key, else the message key, else none), sharding (the sharding "
        "key, else none), id (the message id), property:NAME (that property, else none), none; in order, auto means sharding",
    )
    mode: Literal["structured", "binary"] = Field(
        default="structured",
        description="structured: the event as a whole is the value; binary: the body is, and the attributes are headers",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="how batches are compressed: none, gzip, snappy, lz4, zstd"
    )
    batch_size: ByteSize = Field(
        default=ByteSize(512 * 1024),
        ge=1,
        description="bytes of a batch at most, before compression, but for a record that is larger; 512KiB and the like",
    )
    linger_ms: int = Field(
        default=1,
        ge=0,
        le=5_000,
        description="milliseconds for which the first record of a batch waits for more",
    )

    @field_validator("topic")
    @classmethod
    def _is_a_topic_or_a_template(cls, value: str) -> str:
        if not _LEGAL_TOPIC.fullmatch(_PLACES.sub("x", value)):
            raise ValueError("should be letters, digits, '.', '_' and '-', at most 249, and {topic}, {tag}, {property:NAME}")
        return value


class KafkaSink(ProbedSink):
    """Writes each event as one record. `rng` spreads records without a key over the partitions."""

    Settings = KafkaSettings
    destination = ("topic",)
    settings: KafkaSettings

    def __init__(self, settings: KafkaSettings, *, rng: random.Random | None = None) -> None:
        super().__init__(settings)
        self._fixed_topic = None if _PLACES.search(settings.topic) else settings.topic
        self._key_of = _KEYS.get(settings.key) or _property(settings.key.removeprefix("property:"))
        self._access = Access(settings)
        self._topics: dict[str, Topic] = {}
        self._avoided: dict[str, tuple[float, type[Exception]]] = {}  # until when, on the event loop's clock, and why
        self._finding: set[asyncio.Task[None]] = set()
        self._producers = Producers(self._start_producer)
        self._gathering = Gathering(
            self._producers,
            self._judge,
            batch_bytes=settings.batch_size,
            linger_seconds=settings.linger_ms / 1000,
            rng=rng or random.Random(),  # noqa: S311 - it keeps no secret
        )

    def keep_order(self) -> None:
        """See `Sink.keep_order`. The key is the sharding key then, so that a shard stays in one partition."""
        if self.settings.key not in ("auto", "sharding"):
            raise FixSettingsError(f"KEY: in order, the key is the sharding key, and not {self.settings.key!r}")
        self._key_of = _shard

    async def open(self) -> None:
        """See `Sink.open`. FixSettingsError: a file holds no certificate, or a compression isn't installed."""
        if self.settings.compression not in ("none", "gzip") and not codec.has_zstd():  # one package brings all three
            raise MissingExtraError(f"COMPRESSION is {self.settings.compression}, which needs cramjam: pip install cramjam")
        _log_sparingly()
        self._access.read_certificates()
        await self.probe()
        await self._producers.current()

    async def probe(self) -> None:
        """See `ProbedSink.probe`: ask one of the brokers for the topic, on a connection of its own."""
        error = await _when_created(lambda: self._access.check(self._fixed_topic))
        if self._fixed_topic and error is not of_kafka.NoError:
            verdict = self._judge(self._fixed_topic, error())
            raise verdict if isinstance(verdict, SinkDownError) else SinkDownError(verdict.reason)

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """See `Sink.send`."""
        sending = Sending(deadline)
        written = [self._write(event, sending) for event in events]
        topics: dict[str, list[Record]] = {}
        for record in written:
            if isinstance(record, Record):
                topics.setdefault(record.topic, []).append(record)
        for name, records in topics.items():
            self._hand_over(name, records)
        await sending.over(PATIENCE_SECONDS)
        outcomes = [record.outcome() if isinstance(record, Record) else record for record in written]
        if sending.trouble and not any(isinstance(outcome, Confirmed | Unknown) for outcome in outcomes):
            raise sending.trouble
        return outcomes

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._gathering.close(CLOSE_SECONDS)
        for task in self._finding:
            task.cancel()
        await self._producers.close(CLOSE_SECONDS)

    # ---- an event as a record ----------------------------------------------------------------------------------------

    def _write(self, event: Event, sending: Sending) -> Record | Refused:
        topic = self._fixed_topic or self._topic_of(event)
        if isinstance(topic, Refused):
            return topic
        if self.settings.mode == "structured":
            value = event.structured()
            headers = [("content-type", event.media_type.encode()), ("ce_id", event.id.encode())]
        else:
            value = event.data
            headers = [("content-type", str(event.attributes["datacontenttype"]).encode())]
            headers += [(f"ce_{name}", text.encode()) for name, text in event.header_attributes.items()]
        text = self._key_of(event)
        # What is no text in UTF-8 (half of a surrogate pair) still is a key.
        key = None if text is None else text.encode(errors="surrogatepass")
        size = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)
        return Record(topic, key, value, headers, size, sending)

    def _topic_of(self, event: Event) -> str | Refused:
        template = self.settings.topic
        values = {place: _value(event, place) for place in _PLACES.findall(template)}
        if absent := [place for place, value in values.items() if not value]:
            return Refused(f"it has no {absent[0]}, which TOPIC {template!r} needs")
        name = _PLACES.sub(lambda found: values[found[1]] or "", template)
        return name if _LEGAL_TOPIC.fullmatch(name) else Refused(f"no Kafka topic can be called {name!r}")

    # ---- topics ------------------------------------------------------------------------------------------------------

    def _hand_over(self, name: str, records: list[Record]) -> None:
        """Have records sent, at once where the topic is known and nothing speaks against it."""
        topic, producer = self._topics.get(name), self._producers.ready
        if (
            topic
            and producer
            and _knows(producer, name)
            and not any(record.size > (topic.limit or record.size) for record in records)
        ):
            self._gathering.put(topic, records, producer)
        else:
            task = asyncio.create_task(self._find_and_hand_over(name, records))
            self._finding.add(task)
            task.add_done_callback(self._finding.discard)

    async def _find_and_hand_over(self, name: str, records: list[Record]) -> None:
        try:
            producer = await self._producers.current()
            async with asyncio.timeout(METADATA_SECONDS):
                topic = await self._find(name, producer)
                await self._refuse_too_large(topic, records, producer.client)
            self._gathering.put(topic, records, producer)
        except asyncio.CancelledError:
            settle(records, CLOSED)
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it was, the records need an answer
            settle(records, problem if isinstance(problem, SinkDownError) else self._judge(name, problem))

    async def _find(self, name: str, producer: AIOKafkaProducer) -> Topic:
        """What is known of a topic, looked up if need be. Raises what Kafka says where there is none for us."""
        now = asyncio.get_running_loop().time
        if (topic := self._topics.get(name)) and _knows(producer, name):
            return topic
        until, said = self._avoided.get(name, (0.0, None))
        if said and now() < until:
            raise said
        error = await _when_created(lambda: _look_up(name, producer.client))
        if error is not of_kafka.NoError:
            raise error
        await producer.partitions_for(name)
        topic = self._topics[name] = Topic(name, await _max_message_bytes(name, producer.client), now())
        return topic

    def _avoid(self, name: str, error: type[Exception]) -> None:
        """Don't try a topic that a template has named, for `AVOID_SECONDS`."""
        now = asyncio.get_running_loop().time()
        self._topics.pop(name, None)
        self._avoided = {other: entry for other, entry in self._avoided.items() if now < entry[0]}
        self._avoided.setdefault(name, (now + AVOID_SECONDS, error))

    async def _refuse_too_large(self, topic: Topic, records: list[Record], client: AIOKafkaClient) -> None:
        """Refuse what the broker would: there it would take the whole batch with it (see `gathering`)."""
        now = asyncio.get_running_loop().time
        for record in records:
            if topic.limit and record.size > topic.limit and now() > topic.asked_at + LIMIT_SECONDS:
                topic.limit, topic.asked_at = await _max_message_bytes(topic.name, client), now()
            if topic.limit and record.size > topic.limit and (size := self._exact_size(record)) > topic.limit:
                limit = f"max.message.bytes of the Kafka topic {topic.name!r} is {topic.limit}"
                record.settle(Refused(f"the record is too large: it has {size} bytes, and {limit}"))

    def _exact_size(self, record: Record) -> int:
        """In bytes, as a batch of its own, compressed as it will be."""
        builder = DefaultRecordBatchBuilder(2, _CODECS[self.settings.compression], 0, -1, -1, 0, 0)
        builder.append(0, None, record.key, record.value, record.headers)
        return len(builder.build())

    # ---- Kafka -------------------------------------------------------------------------------------------------------

    async def _start_producer(self) -> AIOKafkaProducer:
        """A new one, started. Raises SinkDownError."""
        settings = self.settings
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers,
            acks="all",
            enable_idempotence=True,
            compression_type=None if settings.compression == "none" else settings.compression,
            max_batch_size=settings.batch_size,
            request_timeout_ms=settings.request_timeout_ms,
            **self._access.options,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await producer.start()
        except (of_kafka.KafkaError, OSError, TimeoutError) as problem:
            await stop(producer, seconds=CLOSE_SECONDS)
            await self._access.check(None)  # which has more to say
            brokers = ", ".join(f"{broker.host}:{broker.port}" for broker in producer.client.cluster.brokers())
            raise SinkDownError(
                f"starting a Kafka producer: {self._access.explain(problem)} (the cluster's brokers: {brokers})"
            ) from problem
        except BaseException:
            await stop(producer, seconds=0)
            raise
        return producer

    def _judge(self, topic: str, problem: Exception) -> Verdict:
        """What a failure means, in this project's words."""
        what = getattr(problem, "description", None) or self._access.explain(problem)
        text = f"Kafka topic {topic!r}: {what}"
        match problem:
            case of_kafka.UnknownTopicOrPartitionError():
                text = f"there is no Kafka topic {topic!r}: create it, or see TOPIC"
            case of_kafka.TopicAuthorizationFailedError():
                text = f"not allowed to write to the Kafka topic {topic!r}: grant it to the user, or see TOPIC"
        if isinstance(problem, _TOO_LARGE):
            self._topics.pop(topic, None)  # its limit isn't what we took it for
            return Refused(text)
        if isinstance(problem, InvalidRecordError):
            return Refused(text)
        if isinstance(problem, _TROUBLE_OF_TOPIC) and not self._fixed_topic:
            self._avoid(topic, type(problem))
            return Again(text)
        if isinstance(problem, (*_TROUBLE_OF_KAFKA, *_TROUBLE_OF_TOPIC)):
            return SinkDownError(text)
        return Again(text)


def _knows(producer: AIOKafkaProducer, topic: str) -> bool:
    return bool(producer.client.cluster.partitions_for_topic(topic))


async def _when_created(
    look: Callable[[], Awaitable[type[of_kafka.BrokerResponseError]]],
) -> type[of_kafka.BrokerResponseError]:
    """What is said of a topic once it is there, or after all of `CREATION_PAUSES`."""
    for pause in CREATION_PAUSES:
        error = await look()
        if not issubclass(error, _NOT_THERE_YET):
            return error
        await asyncio.sleep(pause)
    return await look()


async def _look_up(name: str, client: AIOKafkaClient) -> type[of_kafka.BrokerResponseError]:
    metadata = await client.send(client.get_random_node(), MetadataRequest([name]))
    error: type[of_kafka.BrokerResponseError] = of_kafka.for_code(metadata.topics[0][0])
    return error


async def _max_message_bytes(name: str, client: AIOKafkaClient) -> int | None:
    """The limit of a topic in bytes; None where the right to DESCRIBE_CONFIGS is missing."""
    request = DescribeConfigsRequest([(_TOPIC_RESOURCE, name, ["max.message.bytes"])])
    answer = await client.send(client.get_random_node(), request)
    error, *_, entries = answer.resources[0]
    return int(entries[0][1]) if not error and entries else None


# ---- keys ------------------------------------------------------------------------------------------------------------


def _value(event: Event, place: str) -> str | None:
    """What stands in an event at a place of a template."""
    match place:
        case "topic":
            return event.origin.topic
        case "tag":
            return event.tag
    return event.properties.get(place.removeprefix("property:"))


def _property(name: str) -> Callable[[Event], str | None]:
    return lambda event: event.properties.get(name) or None


def _shard(event: Event) -> str:
    """Never none: what has no sharding key is one shard, and stays together too."""
    return event.properties.get(_SHARDING_KEY, "")


_KEYS: dict[str, Callable[[Event], str | None]] = {
    "auto": lambda event: event.properties.get(_SHARDING_KEY) or event.properties.get(_MESSAGE_KEY) or None,
    "sharding": _property(_SHARDING_KEY),
    "id": lambda event: event.id,
    "none": lambda _: None,
}


# ---- logs ------------------------------------------------------------------------------------------------------------


class _Sparing(logging.Handler):
    """Passes on what wasn't said lately: aiokafka repeats itself ten times a second while a broker is away."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.created >= self._said.get(record.msg, 0.0) + REPEAT_SECONDS:
            self._said[record.msg] = record.created
            logging.getLogger().handle(record)


def _log_sparingly() -> None:
    logger = logging.getLogger("aiokafka")
    if not any(isinstance(handler, _Sparing) for handler in logger.handlers):
        logger.addHandler(_Sparing())
        logger.propagate = False
