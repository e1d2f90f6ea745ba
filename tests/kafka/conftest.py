from collections.abc import Iterator
from uuid import uuid4

import pytest

from kafka.broker import Broker, KafkaMissingError, running_broker
from missing import skip_without


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """One broker for each worker, started by the first test that wants it, and left running by whoever kills or freezes it."""
    try:
        with running_broker() as broker:
            yield broker
    except KafkaMissingError as missing:
        skip_without(missing)


@pytest.fixture
def topic(kafka: Broker) -> str:
    """A new one, with six partitions."""
    name = f"topic-{uuid4().hex}"
    kafka.create_topic(name, partitions=6)
    return name
