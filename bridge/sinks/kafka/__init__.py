"""Events into Apache Kafka: idempotent, acknowledged by all in-sync replicas, gathered into large batches.

A record follows the CloudEvents Kafka binding, structured or binary. With a key, its partition is the one that Java clients
choose. How an event becomes a record is told in `records`, how records become batches in `gathering`, what a failure means in
`topics`, and how one gets into a cluster in `access`.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Literal

from aiokafka import AIOKafkaProducer, codec
from aiokafka.errors import BrokerResponseError, KafkaError
from pydantic import ByteSize, Field, field_validator

from bridge.errors import FixSettingsError, MissingExtraError, SinkDownError
from bridge.event import Event
from bridge.sinks import Outcome, ProbedSink
from bridge.sinks.kafka.access import Access, AccessSettings
from bridge.sinks.kafka.gathering import CLOSED, METADATA_SECONDS, NOT_IN_TIME, Gathering
from bridge.sinks.kafka.logs import log_sparingly
from bridge.sinks.kafka.producers import Producers, stop
from bridge.sinks.kafka.records import Record, RecordWriter, is_template, is_topic_or_template
from bridge.sinks.kafka.topics import Topics, when_created
from bridge.sinks.sending import Sending, settle

START_SECONDS = 10.0
"""How long a producer may take to start."""
PATIENCE_SECONDS = 15.0
"""How long a send waits for Kafka: leases are long, and an outage should show itself before they end."""
CLOSE_SECONDS = 0.8
"""How long closing waits for records that are on their way, and as long again for the producer to stop."""


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
        default=0,  # what comes while a batch is in flight is gathered anyway, and 1 ms costs 2 to 5 of a message's time
        ge=0,
        le=5_000,
        description="milliseconds for which the first record of a batch waits for more",
    )

    @field_validator("topic")
    @classmethod
    def _is_a_topic_or_a_template(cls, value: str) -> str:
        if not is_topic_or_template(value):
            raise ValueError("should be letters, digits, '.', '_' and '-', at most 249, and {topic}, {tag}, {property:NAME}")
        return value


class KafkaSink(ProbedSink):
    """Writes each event as one record. `rng` spreads records without a key over the partitions."""

    Settings = KafkaSettings
    destination = ("topic",)
    settings: KafkaSettings

    def __init__(self, settings: KafkaSettings, *, rng: random.Random | None = None) -> None:
        super().__init__(settings)
        self._only_topic = None if is_template(settings.topic) else settings.topic
        self._access = Access(settings)
        self._writer = RecordWriter(topic=settings.topic, key=settings.key, mode=settings.mode)
        self._topics = Topics(self._only_topic, settings.compression, self._access.explain)
        self._finding: set[asyncio.Task[None]] = set()
        self._producers = Producers(self._start_producer)
        self._gathering = Gathering(
            self._producers,
            self._topics.judge,
            batch_bytes=settings.batch_size,
            linger_seconds=settings.linger_ms / 1000,
            rng=rng or random.Random(),  # noqa: S311 - it keeps no secret
        )

    def keep_order(self) -> None:
        """See `Sink.keep_order`. The key is the sharding key then, so that a shard stays in one partition."""
        if self.settings.key not in ("auto", "sharding"):
            raise FixSettingsError(f"KEY: in order, the key is the sharding key, and not {self.settings.key!r}")
        self._writer.keep_order()

    async def open(self) -> None:
        """See `Sink.open`. FixSettingsError: a file holds no certificate, or a compression isn't installed."""
        if self.settings.compression not in ("none", "gzip") and not codec.has_zstd():  # one package brings all three
            raise MissingExtraError(f"COMPRESSION is {self.settings.compression}, which needs cramjam: pip install cramjam")
        log_sparingly()
        self._access.read_certificates()
        await self.probe()
        await self._producers.current()

    async def probe(self) -> None:
        """See `ProbedSink.probe`: ask one of the brokers for the topic, on a connection of its own."""
        try:
            await when_created(lambda: self._access.check(self._only_topic))
        except BrokerResponseError as problem:
            verdict = self._topics.judge(self.settings.topic, problem)
            raise verdict if isinstance(verdict, SinkDownError) else SinkDownError(verdict.reason) from problem

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """See `Sink.send`."""
        sending = Sending(deadline)
        of_topics: dict[str, list[Record]] = {}
        for event in events:
            if record := self._writer.write(event, sending):
                of_topics.setdefault(record.topic, []).append(record)
        for topic, records in of_topics.items():
            self._hand_over(topic, records)
        patience_ends = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        return await sending.outcomes(min(deadline, patience_ends), NOT_IN_TIME)

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._gathering.close(CLOSE_SECONDS)
        for task in self._finding:
            task.cancel()
        await self._access.close()
        await self._producers.close(CLOSE_SECONDS)

    def _hand_over(self, name: str, records: list[Record]) -> None:
        """Have records of one topic sent, at once where it is known and nothing speaks against it."""
        producer = self._producers.ready
        topic = self._topics.known(name, producer) if producer else None
        if producer and topic and all(record.size <= topic.limit for record in records):
            self._gathering.put(topic, records, producer)
        else:
            task = asyncio.create_task(self._find_and_hand_over(name, records))
            self._finding.add(task)
            task.add_done_callback(self._finding.discard)

    async def _find_and_hand_over(self, name: str, records: list[Record]) -> None:
        try:
            producer = await self._producers.current()
            async with asyncio.timeout(METADATA_SECONDS):
                topic = await self._topics.find(name, producer)
                await self._topics.refuse_too_large(topic, records, producer.client)
            wanted = [record for record in records if record.is_wanted]  # neither too large, nor too late by now
            self._gathering.put(topic, wanted, producer)
        except asyncio.CancelledError:
            settle(records, CLOSED)
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it was, the records need an answer
            settle(records, self._topics.judge(name, problem))

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
        except (KafkaError, OSError, TimeoutError) as problem:
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
