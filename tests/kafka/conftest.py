from collections.abc import Iterator
from uuid import uuid4

import pytest

from kafka.broker import Broker, KafkaMissingError, running_broker
from missing import skip_without


@pytest.fixture(scope="session")
def kafka_of_this_worker() -> Iterator[Broker]:
    """Started by the first test that wants it, and left running by whoever kills or freezes it."""
    try:
        with running_broker() as broker:
            yield broker
    except KafkaMissingError as missing:
        skip_without(missing)


@pytest.fixture
def kafka(kafka_of_this_worker: Broker) -> Broker:
    """It knows its partitions' leaders: who was frozen, or got no processor, is let in again a moment later."""
    if kafka_of_this_worker.runs:
        kafka_of_this_worker.wait_until_it_answers()
    else:  # a test killed it, and didn't get as far as starting it again
        kafka_of_this_worker.start()
    return kafka_of_this_worker


@pytest.fixture
def topic(kafka: Broker) -> str:
    """A new one, with six partitions."""
    name = f"topic-{uuid4().hex}"
    kafka.create_topic(name, partitions=6)
    return name
