"""RocketMQ to Kafka by the official Python SDK and confluent-kafka.

`python_sdk.py ENDPOINT TOPIC BROKERS KAFKA_TOPIC WORKERS`.
"""

import sys
import threading
from collections.abc import Sequence
from functools import partial
from itertools import repeat

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Record
from mq_http_sdk.mq_client import MQClient
from mq_http_sdk.mq_consumer import Message


def produce(producer: Producer, topic: str, messages: Sequence[Message]) -> list[str]:
    """Produce a batch, and wait until Kafka has answered for all of it; the receipt handles of what it has confirmed."""
    confirmed: list[str] = []
    left, answered = len(messages), threading.Event()

    def note(handle: str, error: KafkaError | None, _record: Record) -> None:  # always called by the one thread that polls
        nonlocal left
        if error is None:
            confirmed.append(handle)
        left -= 1
        if left == 0:
            answered.set()

    for message in messages:
        noting = partial(note, message.receipt_handle)
        producer.produce(topic, key=message.message_id, value=message.message_body, on_delivery=noting)
    answered.wait()
    return confirmed


def work(endpoint: str, topic: str, producer: Producer, kafka_topic: str) -> None:
    """Consume for ever; the SDK's client holds one connection, so each worker has one."""
    consumer = MQClient(endpoint, "AKID", "SECRET").get_consumer("MQ_INST_1", topic, "GID_bench", "")
    while True:
        messages = consumer.consume_message(16, 30)
        if confirmed := produce(producer, kafka_topic, messages):
            consumer.ack_message(confirmed)


def main(endpoint: str, topic: str, brokers: str, kafka_topic: str, workers: str) -> None:
    """Consume with so many threads."""
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    for arguments in repeat((endpoint, topic, producer, kafka_topic), int(workers)):
        threading.Thread(target=work, args=arguments, daemon=True).start()
    while True:
        producer.poll(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
