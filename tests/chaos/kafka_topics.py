"""Kafka behind a wire, and what it holds at the end."""

import contextlib
import time
from collections.abc import Iterator

import orjson
from confluent_kafka import Consumer, TopicPartition

from chaos.journal import Copy
from kafka.broker import LISTENERS, Broker
from kafka.reading import until_led
from server_process import free_port

READ_SECONDS = 60.0
_LISTENER = "WIRE"


@contextlib.contextmanager
def listening_behind(broker: Broker, wire_port: int) -> Iterator[int]:
    """Have a broker listen on one more port, which is told, and send clients that come there to `wire_port`. Restarts it."""
    port = free_port()
    ours = {**{name: f"localhost:{number}" for name, number in broker.ports.items()}, _LISTENER: f"127.0.0.1:{port}"}
    advertised = {**ours, _LISTENER: f"127.0.0.1:{wire_port}"}
    del advertised["CONTROLLER"]
    lines = {
        "listeners": ",".join(f"{name}://{address}" for name, address in ours.items()),
        "advertised.listeners": ",".join(f"{name}://{address}" for name, address in advertised.items()),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}" for name, protocol in {**LISTENERS, _LISTENER: "PLAINTEXT"}.items()
        ),
    }
    path = broker.folder / "server.properties"
    before = path.read_text()
    path.write_text(before + "".join(f"{name}={value}\n" for name, value in lines.items()))  # the last of a name holds
    broker.kill()
    broker.start()
    try:
        yield port
    finally:
        path.write_text(before)  # for its next start


def copies(broker: Broker, topic: str) -> list[Copy]:
    """Every record of a topic with `message.timestamp.type=LogAppendTime`, in the order of each partition."""
    consumer = Consumer(
        {"bootstrap.servers": broker.address(), "group.id": "never committed", "enable.auto.commit": False, "log_level": 0}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
        ends = {number: until_led(consumer, TopicPartition(topic, number)) for number in partitions}
        consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in ends.items()])
        wanted = sum(high - low for low, high in ends.values())
        records: dict[tuple[int, int], Copy] = {}
        give_up = time.monotonic() + READ_SECONDS
        while len(records) < wanted:
            assert time.monotonic() < give_up, f"read {len(records)} of {wanted} records"
            for message in consumer.consume(min(wanted - len(records), 10_000), timeout=0.2):
                value, partition, offset = message.value(), message.partition(), message.offset()
                assert value is not None, message.error()
                assert partition is not None
                assert offset is not None
                records[partition, offset] = copy_of(value, message.timestamp()[1] / 1000)
        return [records[place] for place in sorted(records)]
    finally:
        consumer.close()


def copy_of(event: str | bytes, at: float) -> Copy:
    """An event in JSON, as the replicas write it."""
    content = orjson.loads(event)
    return Copy(content["id"], at, content["source"].removeprefix("/"))
