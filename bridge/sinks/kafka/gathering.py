"""The events of many sends become few large batches, one in flight for each partition.

While a batch of a partition is in flight, what comes for that partition is gathered for the next one. aiokafka, idempotent,
repeats a batch in its place until its fate is known, so nothing is reordered and nothing is written twice.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from random import Random

from aiokafka import AIOKafkaProducer

from bridge.sinks import CONFIRMED, Again, Confirmed, Refused
from bridge.sinks.kafka.murmur import murmur2
from bridge.sinks.kafka.producers import Producers
from bridge.sinks.kafka.records import Record
from bridge.sinks.kafka.topics import Topic, Verdict
from bridge.sinks.sending import settle

METADATA_SECONDS = 5.0
"""How long a new producer may take to learn where the partitions of a topic are."""

CLOSED = Again("the sink was closed before Kafka had answered")
NOT_IN_TIME = Again("Kafka was still busy with earlier records of the same partition, or out of reach")


class Gathering:
    """Where records wait for the batch of their partition.

    A batch holds `batch_bytes` at most, or a single record. The first record of an idle partition waits `linger_seconds` for
    others, but never longer than half of the time it has. `judge` says what a failure means.
    """

    def __init__(
        self,
        producers: Producers,
        judge: Callable[[str, Exception], Verdict],
        *,
        batch_bytes: int,
        linger_seconds: float,
        rng: Random,
    ) -> None:
        self.producers = producers
        self.judge = judge
        self.batch_bytes = batch_bytes
        self.linger_seconds = linger_seconds
        self._rng = rng
        self._partitions: dict[tuple[str, int], _Partition] = {}

    def put(self, topic: Topic, records: Iterable[Record], producer: AIOKafkaProducer) -> None:
        """Have records of one topic and one sending sent, in their order; `producer` knows the topic's partitions."""
        cluster = producer.client.cluster
        partitions = len(cluster.partitions_for_topic(topic.name) or ())
        of_numbers: defaultdict[int, list[Record]] = defaultdict(list)
        for record in records:
            if record.key is not None:
                number = (murmur2(record.key) & 0x7FFFFFFF) % partitions
            elif topic.sticky is not None:
                number = topic.sticky
            else:
                number = topic.sticky = self._choose(topic, cluster.available_partitions_for_topic(topic.name), partitions)
            of_numbers[number].append(record)
        for number, of_number in of_numbers.items():
            partition = self._partitions.get((topic.name, number))
            if partition is None:
                partition = self._partitions[topic.name, number] = _Partition(self, topic, number)
            partition.topic = topic
            partition.put(of_number)

    def _choose(self, topic: Topic, available: Iterable[int] | None, partitions: int) -> int:
        """A partition for records without a key; one that has nothing in flight, where there is one."""
        numbers = list(available or range(partitions))
        known = {number: self._partitions.get((topic.name, number)) for number in numbers}
        idle = [number for number, partition in known.items() if partition is None or not partition.is_sending]
        return self._rng.choice(idle or numbers)

    async def close(self, seconds: float) -> None:
        """Wait for what is on its way, for so many seconds at most, and stop."""
        sending = [task for partition in self._partitions.values() if (task := partition.flush())]
        if sending:
            await asyncio.wait(sending, timeout=seconds)
        for partition in self._partitions.values():
            partition.abandon()


class _Partition:
    """The records that wait for a partition, and the task that sends one batch of them after the other."""

    def __init__(self, gathering: Gathering, topic: Topic, number: int) -> None:
        self.topic = topic
        self._gathering = gathering
        self._number = number
        self._waiting: list[Record] = []
        self._waiting_bytes = 0
        self._lingering: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    @property
    def is_sending(self) -> bool:
        """Whether a batch is in flight."""
        return self._sending is not None

    def put(self, records: Sequence[Record]) -> None:
        """Have records of one sending sent after those that wait."""
        self._waiting.extend(records)
        self._waiting_bytes += sum(record.size for record in records)
        if self._sending:
            return
        if self._waiting_bytes >= self._gathering.batch_bytes:
            self.flush()
        elif self._lingering is None:
            loop = asyncio.get_running_loop()
            left = records[0].sending.deadline - loop.time()
            self._lingering = loop.call_later(min(self._gathering.linger_seconds, max(0.0, left / 2)), self.flush)

    def flush(self) -> "asyncio.Task[None] | None":
        """Send what waits, without lingering; the task that does, if there is anything."""
        if self._lingering:
            self._lingering.cancel()
            self._lingering = None
        if self._sending is None and self._waiting:
            self._sending = asyncio.create_task(self._send_all())
        return self._sending

    def abandon(self) -> None:
        """Send nothing more; whoever waits is told so."""
        if self._sending:
            self._sending.cancel()
        settle(self._take_all(), CLOSED)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                records = self._take_batch()
                try:
                    await self._send(records)
                except asyncio.CancelledError:
                    settle(records, CLOSED)
                    raise
        finally:
            self._sending = None

    async def _send(self, records: Sequence[Record]) -> None:
        """Settle what becomes of a batch; one that is refused is sent as halves until the record that is to blame is alone."""
        verdict = await self._write(records)
        if isinstance(verdict, Refused) and len(records) > 1:
            for record in records:
                record.on_its_way = False  # none of them was written
            middle = len(records) // 2
            await self._send(records[:middle])
            await self._send(records[middle:])
        else:
            settle(records, verdict)

    async def _write(self, records: Sequence[Record]) -> Confirmed | Verdict:
        """What becomes of records as one batch. Those whose time is over are left out, and told so."""
        try:
            producer = await self._producer()
        except Exception as problem:  # noqa: BLE001 - whatever it was, the records need an answer
            verdict = self._judge(problem)
            settle(self._take_all(), verdict)
            return verdict
        batch = producer.create_batch()
        now = asyncio.get_running_loop().time()
        for record in records:
            if record.is_wanted and now < record.sending.deadline:
                batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
                record.on_its_way = True
            else:
                record.settle(NOT_IN_TIME)
        if not batch.record_count():
            return NOT_IN_TIME
        try:
            await self._gathering.producers.send_batch(producer, batch, self.topic.name, self._number)
        except Exception as problem:  # noqa: BLE001 - as above
            return self._judge(problem)
        return CONFIRMED

    def _take_batch(self) -> Sequence[Record]:
        """The records that the next batch has room for, at least one."""
        if self.topic.sticky == self._number:
            self.topic.sticky = None
        room = min(self._gathering.batch_bytes, self.topic.limit)
        if self._waiting_bytes <= room:
            return self._take_all()
        count = 0
        for record in self._waiting:
            if count and record.size > room:
                break
            room -= record.size
            count += 1
        records, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= sum(record.size for record in records)
        return records

    def _take_all(self) -> Sequence[Record]:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return waiting

    def _judge(self, problem: Exception) -> Verdict:
        return self._gathering.judge(self.topic.name, problem)

    async def _producer(self) -> AIOKafkaProducer:
        """One that knows the partitions of the topic."""
        producer = await self._gathering.producers.current()
        if producer.client.cluster.partitions_for_topic(self.topic.name) is None:
            async with asyncio.timeout(METADATA_SECONDS):
                await producer.partitions_for(self.topic.name)
        return producer
