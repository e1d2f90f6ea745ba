"""What stands in Kafka, as another client sees it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from kafka.broker import Broker

READ_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Read:
    """One record."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, Any]

    @property
    def event_id(self) -> str:
        return str(self.headers["ce_id"].decode())


def read(broker: Broker, topic: str) -> Sequence[Read]:
    """All records of a topic, in the order of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address(),
            "group.id": "never committed",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            "log_level": 0,
        }
    )
    try:
        known = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
        ends = {number: until_led(consumer, TopicPartition(topic, number)) for number in known}
        consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in ends.items()])
        wanted = sum(high - low for low, high in ends.values())
        records: list[Read] = []
        give_up = time.monotonic() + READ_SECONDS
        while len(records) < wanted:
            assert time.monotonic() < give_up, f"read {len(records)} of {wanted} records"
            records += [_read(message) for message in consumer.consume(wanted - len(records), timeout=0.2)]
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def until_led(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """The first and the next offset; a partition may be without a leader for a moment after an outage."""
    give_up = time.monotonic() + READ_SECONDS
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, READ_SECONDS)
        except KafkaException:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
        else:
            return low, high


def _read(message: Message) -> Read:
    assert message.error() is None, message.error()
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    headers = dict(message.headers() or [])
    return Read(partition, offset, _bytes(message.key()), _bytes(message.value()), headers)


def _bytes(value: "str | bytes | None") -> bytes | None:
    return value.encode() if isinstance(value, str) else value
