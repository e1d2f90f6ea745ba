"""The events of many sends become few large batches, one in flight for each partition.

While a batch of a partition is in flight, what comes for that partition is gathered for the next one. aiokafka, idempotent,
repeats a batch in its place until its fate is known, so nothing is reordered and nothing is written twice.

A batch that fails for good leaves a gap in the sequence numbers of its partition, because aiokafka doesn't take them back, and
the broker would refuse whatever follows with OutOfOrderSequenceNumber. So the producer is replaced; the old one sees through
what it has in flight elsewhere. Where a record of the batch is to blame, halves of the batch are sent until it is alone.
"""

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, Refused, Unknown

Answer = Confirmed | Refused | Again

Verdict = Refused | Again | SinkDownError
"""What a failure means: (one of) the records will never be taken; try again; or Kafka itself has trouble."""

METADATA_SECONDS = 5.0
"""How long a new producer may take to learn where the partitions of a topic are."""
CUT_SECONDS = 0.5
"""How long closing the connections may take once a producer is given up."""

_CANCELS = 100
"""How often the task that sends is told to end: once for itself and its requests, and more than once for good measure."""

CLOSED = Again("the sink was closed before Kafka had answered")
NOT_IN_TIME = Again("Kafka was still busy with earlier records of the same partition, or out of reach")


class Sending:
    """One call of `send`: over when each of its records has an answer, or when nobody wants to wait longer."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.trouble: SinkDownError | None = None
        """What is wrong with Kafka itself, where that was an answer."""
        self._open = 0
        self._answered = asyncio.Event()
        self._answered.set()

    def begin(self) -> None:
        """One more record to wait for."""
        self._open += 1
        self._answered.clear()

    def answered(self) -> None:
        """One record less."""
        self._open -= 1
        if not self._open:
            self._answered.set()

    async def over(self, patience_seconds: float) -> None:
        """Wait until it is, for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(self.deadline, asyncio.get_running_loop().time() + patience_seconds)):
                await self._answered.wait()


@dataclass(slots=True, eq=False)
class Record:
    """One event, as Kafka will have it, and what is known of its fate."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    size: int
    """In bytes: the most that it takes as a batch of its own, uncompressed."""
    sending: Sending
    handed_over: bool = False
    answer: Answer | None = None
    late: "asyncio.Future[Answer] | None" = None

    def __post_init__(self) -> None:
        self.sending.begin()

    def settle(self, verdict: Confirmed | Verdict) -> None:
        """Its fate is known."""
        if isinstance(verdict, SinkDownError):
            self.sending.trouble = verdict
            verdict = Again(str(verdict))
        if self.late:
            if not self.late.done():
                self.late.set_result(verdict)
        elif self.answer is None:
            self.answer = verdict
            self.sending.answered()

    def outcome(self) -> Outcome:
        """What is known at the end of its `Sending`. What has not been handed over by then will not be."""
        if self.answer is None and not self.handed_over:
            self.settle(NOT_IN_TIME)
        if self.answer is None:
            self.late = asyncio.get_running_loop().create_future()
            return Unknown(self.late)
        return self.answer


def settle(records: Iterable[Record], verdict: Confirmed | Verdict) -> None:
    """The fate of each of them is known."""
    for record in records:
        record.settle(verdict)


@dataclass(slots=True, eq=False)
class Topic:
    """What is known of a topic that exists."""

    name: str
    limit: int | None
    """Its `max.message.bytes`, the most that a batch may take as it is sent; None where we may not ask."""
    asked_at: float
    """When that was asked, on the event loop's clock."""
    sticky: int | None = field(default=None, init=False)
    """The partition that records without a key go to, until its batch goes out."""


class Producers:
    """The producer in use, and those that finish what they have in flight.

    `start` gives a started one, or raises SinkDownError.
    """

    def __init__(self, start: Callable[[], Awaitable[AIOKafkaProducer]]) -> None:
        self._start = start
        self._current: asyncio.Task[AIOKafkaProducer] | None = None
        self._in_flight: Counter[AIOKafkaProducer] = Counter()
        self._retired: set[AIOKafkaProducer] = set()
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> AIOKafkaProducer | None:
        """The one in use, if it has started."""
        task = self._current
        return task.result() if task and task.done() and not task.cancelled() and not task.exception() else None

    async def current(self) -> AIOKafkaProducer:
        """The one in use, started if need be. Raises SinkDownError."""
        if self._current is None:
            self._current = asyncio.ensure_future(self._start())
            self._current.add_done_callback(self._forget_if_failed)
        return await asyncio.shield(self._current)

    def _forget_if_failed(self, task: "asyncio.Task[AIOKafkaProducer]") -> None:
        if task.cancelled() or task.exception():
            self._current = None

    async def send_batch(self, producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> None:
        """Wait until a batch is durable. A failure retires the producer: see the top of this module."""
        self._in_flight[producer] += 1
        try:
            await (await producer.send_batch(batch, topic, partition=partition))
        except Exception:
            if producer is self.ready:
                self._current = None
            self._retired.add(producer)
            raise
        finally:
            self._in_flight[producer] -= 1
            if not self._in_flight[producer]:
                del self._in_flight[producer]
                self._stop_if_retired(producer)

    def _stop_if_retired(self, producer: AIOKafkaProducer) -> None:
        if producer in self._retired:
            self._retired.discard(producer)
            stopping = asyncio.create_task(stop(producer, seconds=METADATA_SECONDS))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    async def close(self, seconds: float) -> None:
        """Stop them all, within that time and `CUT_SECONDS`."""
        producers = {*self._in_flight, *self._retired}
        if self.ready:
            producers.add(self.ready)
        ending = {asyncio.create_task(stop(producer, seconds=seconds)) for producer in producers} | self._stopping
        if self._current and not self._current.done():
            self._current.cancel()
            ending.add(asyncio.create_task(_ended(self._current)))
        self._current = None
        if ending:
            await asyncio.wait(ending, timeout=seconds + 2 * CUT_SECONDS)


async def _ended(task: "asyncio.Task[AIOKafkaProducer]") -> None:
    await asyncio.wait([task])


async def stop(producer: AIOKafkaProducer, *, seconds: float) -> None:
    """Let it flush and stop for so many seconds; then cut it off, which takes `CUT_SECONDS` at most."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=seconds)
    if not stopping.done():
        # Neither stop() nor the task that sends has a bound while a broker is frozen. That task waits for each of its
        # requests when it is cancelled, and gives one up for each further time.
        stopping.cancel()
        sender = producer._sender.sender_task  # noqa: SLF001 - nothing public ends it
        for _ in range(_CANCELS):
            if sender and not sender.done():
                sender.cancel()
                await asyncio.sleep(0)
        stopping = asyncio.ensure_future(producer.client.close())
        await asyncio.wait([stopping], timeout=CUT_SECONDS)
        stopping.cancel()
    elif not stopping.cancelled():
        stopping.exception()  # it has ended, and what it had in flight has had its answer


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

    def put(self, topic: Topic, records: list[Record], producer: AIOKafkaProducer) -> None:
        """Have records of one topic sent, in their order; `producer` knows the topic's partitions."""
        cluster = producer.client.cluster
        partitions = len(cluster.partitions_for_topic(topic.name) or ())
        for record in records:
            if record.answer is not None:
                continue  # it took too long to find out about the topic
            if record.key is not None:
                number = (murmur2(record.key) & 0x7FFFFFFF) % partitions
            else:
                if topic.sticky is None:
                    topic.sticky = self._choose(
                        topic.name, cluster.available_partitions_for_topic(topic.name) or range(partitions)
                    )
                number = topic.sticky
            partition = self._partitions.get((topic.name, number))
            if partition is None:
                partition = self._partitions[topic.name, number] = _Partition(self, topic, number)
            partition.topic = topic
            partition.put(record)

    def _choose(self, topic: str, available: Iterable[int]) -> int:
        """A partition for records without a key; one that has nothing in flight, where there is one."""
        numbers = list(available)
        known = {number: self._partitions.get((topic, number)) for number in numbers}
        idle = [number for number, partition in known.items() if partition is None or not partition.sending]
        return self._rng.choice(idle or numbers)

    async def close(self, seconds: float) -> None:
        """Wait for what is on its way, for so many seconds at most, and stop."""
        tasks = [partition.flush() for partition in self._partitions.values()]
        running = [task for task in tasks if task]
        if running:
            await asyncio.wait(running, timeout=seconds)
        for partition in self._partitions.values():
            partition.abandon()


class _Partition:
    """The records that wait for a partition; and the one batch that is in flight."""

    def __init__(self, gathering: Gathering, topic: Topic, number: int) -> None:
        self.topic = topic
        self._gathering = gathering
        self._number = number
        self._waiting: deque[Record] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._in_flight: list[Record] = []
        self._suspects = 0  # so many of those in front were in a batch that was refused
        self._most = sys.maxsize  # records in a batch, while there are suspects

    @property
    def sending(self) -> bool:
        """Whether a batch is in flight."""
        return self._task is not None

    def put(self, record: Record) -> None:
        self._waiting.append(record)
        self._bytes += record.size
        if self._task:
            return
        if self._bytes >= self._gathering.batch_bytes:
            self.flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            left = record.sending.deadline - loop.time()
            self._timer = loop.call_later(min(self._gathering.linger_seconds, max(0.0, left / 2)), self.flush)

    def flush(self) -> "asyncio.Task[None] | None":
        """Send what waits, without lingering; the task that does, if there is anything."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._task is None and self._waiting:
            self._task = asyncio.create_task(self._send_all())
        return self._task

    def abandon(self) -> None:
        """Send nothing more; whoever waits is told so."""
        if self._task:
            self._task.cancel()
        settle((*self._in_flight, *self._waiting), CLOSED)
        self._waiting.clear()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_batch()
        finally:
            self._task = None

    async def _send_batch(self) -> None:
        producers = self._gathering.producers
        try:
            producer = await self._producer()
        except Exception as problem:  # noqa: BLE001 - whatever it was, the records need an answer
            verdict = problem if isinstance(problem, SinkDownError) else self._judge(problem)
            waiting, self._waiting, self._bytes = self._waiting, deque(), 0
            settle(waiting, verdict)
            return
        batch = producer.create_batch()
        records = self._fill(batch)
        if not records:
            return
        self._in_flight = records
        suspects = max(0, self._suspects - len(records))
        try:
            await producers.send_batch(producer, batch, self.topic.name, self._number)
        except Exception as problem:  # noqa: BLE001 - as above
            suspects += self._failed(records, self._judge(problem))
        else:
            settle(records, CONFIRMED)
        self._in_flight = []
        self._suspects = suspects
        if not suspects:
            self._most = sys.maxsize

    def _judge(self, problem: Exception) -> Verdict:
        return self._gathering.judge(self.topic.name, problem)

    async def _producer(self) -> AIOKafkaProducer:
        producer = await self._gathering.producers.current()
        if producer.client.cluster.partitions_for_topic(self.topic.name) is None:
            async with asyncio.timeout(METADATA_SECONDS):
                await producer.partitions_for(self.topic.name)
        return producer

    def _fill(self, batch: BatchBuilder) -> list[Record]:
        """Move the records that the next batch has room for into it; those whose time is over are left out."""
        room = min(self._gathering.batch_bytes, self.topic.limit or sys.maxsize)
        records: list[Record] = []
        waiting = self._waiting
        now = asyncio.get_running_loop().time()
        while waiting and len(records) < self._most and (not records or waiting[0].size <= room):
            record = waiting.popleft()
            self._bytes -= record.size
            if now >= record.sending.deadline:
                record.settle(NOT_IN_TIME)
            if record.answer is None:
                batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
                record.handed_over = True
                records.append(record)
                room -= record.size
        if self.topic.sticky == self._number:
            self.topic.sticky = None
        return records

    def _failed(self, records: list[Record], verdict: Verdict) -> int:
        """Tell the records of a batch that failed. Returns how many are in front again, to find out which is to blame."""
        if not isinstance(verdict, Refused) or len(records) == 1:
            settle(records, verdict)
            return 0
        # None of them was written. Those that are followed beyond their deadline must not be handed over again.
        settle((record for record in records if record.late), Again(verdict.reason))
        suspects = [record for record in records if not record.late]
        for record in reversed(suspects):
            record.handed_over = False
            self._bytes += record.size
            self._waiting.appendleft(record)
        self._most = len(records) // 2
        return len(suspects)
