"""The contract that every sink keeps, with a real broker: killed, started again, frozen."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from bridge.event import Event
from bridge.sinks.kafka import KafkaSettings, KafkaSink
from bridge.testing import make_event
from bridge.testing.contract import Rig, SinkContract
from kafka.broker import MAX_MESSAGE_BYTES, Broker
from kafka.reading import read


class KafkaRig(Rig):
    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    def sink(self) -> KafkaSink:
        return KafkaSink(KafkaSettings(bootstrap_servers=self._broker.address(), topic=self._topic))

    async def held(self) -> Sequence[str]:
        return [record.event_id for record in await asyncio.to_thread(read, self._broker, self._topic)]

    async def contents(self) -> Mapping[str, bytes]:
        records = await asyncio.to_thread(read, self._broker, self._topic)
        return {record.event_id: record.value for record in records if record.value is not None}

    def unacceptable(self) -> Event:
        return make_event("x" * MAX_MESSAGE_BYTES)

    async def take_down(self) -> None:
        self._broker.kill()

    async def bring_up(self) -> None:
        await asyncio.to_thread(self._broker.start)

    async def freeze(self) -> None:
        self._broker.freeze()

    async def thaw(self) -> None:
        self._broker.thaw()


@pytest.mark.timeout(300)
class TestKafka(SinkContract):
    patience_seconds = 100.0  # the broker alone has 90 to start again

    @pytest.fixture
    def rig(self, kafka: Broker, topic: str) -> KafkaRig:
        return KafkaRig(kafka, topic)
