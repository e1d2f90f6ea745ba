"""The producer in use, and those before it.

A batch that fails for good leaves a gap in the sequence numbers of its partition, because aiokafka doesn't take them back, and
the broker would refuse whatever follows with OutOfOrderSequenceNumber. So the producer is replaced; the old one sees through
what it has in flight elsewhere.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

RETIRE_SECONDS = 5.0
"""How long a producer that has been replaced may take to stop."""
CUT_SECONDS = 0.5
"""How long closing the connections may take once a producer is given up."""

_CANCELS = 100
"""How often the task that sends is told to end: once for itself and its requests, and more than once for good measure."""


class Producers:
    """The producer in use, and those that finish what they have in flight.

    `start` gives a started one, or raises SinkDownError.
    """

    def __init__(self, start: Callable[[], Coroutine[Any, Any, AIOKafkaProducer]]) -> None:
        self.ready: AIOKafkaProducer | None = None
        """The one in use, if it has started."""
        self._start = start
        self._starting: asyncio.Task[AIOKafkaProducer] | None = None
        self._in_flight: Counter[AIOKafkaProducer] = Counter()
        self._retired: set[AIOKafkaProducer] = set()
        self._stopping: set[asyncio.Task[None]] = set()

    async def current(self) -> AIOKafkaProducer:
        """The one in use, started if need be. Raises SinkDownError."""
        if self.ready:
            return self.ready
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    def _started(self, starting: asyncio.Task[AIOKafkaProducer]) -> None:
        self._starting = None
        if not starting.cancelled() and not starting.exception():
            self.ready = starting.result()

    async def send_batch(self, producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> None:
        """Wait until a batch is durable. A failure retires the producer: see the top of this module."""
        self._in_flight[producer] += 1
        try:
            await (await producer.send_batch(batch, topic, partition=partition))
        except Exception:
            if producer is self.ready:
                self.ready = None
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
            stopping = asyncio.create_task(stop(producer, seconds=RETIRE_SECONDS))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    async def close(self, seconds: float) -> None:
        """Stop them all, within that time and twice `CUT_SECONDS`."""
        producers = {producer for producer in (self.ready, *self._in_flight, *self._retired) if producer}
        ending: set[asyncio.Task[Any]] = {asyncio.create_task(stop(producer, seconds=seconds)) for producer in producers}
        ending |= self._stopping
        if self._starting:
            self._starting.cancel()
            ending.add(self._starting)
        self.ready = None
        if ending:
            await asyncio.wait(ending, timeout=seconds + 2 * CUT_SECONDS)


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
