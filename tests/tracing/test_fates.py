"""Spans tell what became of messages that did not simply get through."""

import asyncio
from pathlib import Path

from bridge.emulator.server import Emulator
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, Refused, Unknown
from bridge.testing import MemorySink
from outside.command import TOPIC
from outside.waiting import until
from tracing.collector import Collector
from tracing.running import acked, tracing
from webhook.receiver import Receiver


async def test_every_try_is_a_span_of_its_own(emulator: Emulator, collector: Collector, tmp_path: Path) -> None:
    answers: list[Outcome] = [CONFIRMED, Again("not now", after=0.01)]
    sink = MemorySink(lambda _: answers.pop())
    emulator.publish(TOPIC, "a message")
    async with tracing(emulator, tmp_path, sinks={"stdout": sink}):
        await until(lambda: acked(emulator) == 1)
    first, second = collector.named("send stdout")
    (process,) = collector.named("process orders")
    assert (first.failed, first.span.status.message) == ("again", "not now")
    assert first.parent == second.parent == process.id
    assert second.failed is process.failed is None


async def test_what_is_refused_ends_its_span_at_once(emulator: Emulator, collector: Collector, tmp_path: Path) -> None:
    emulator.publish(TOPIC, "poison")
    async with tracing(emulator, tmp_path, sinks={"stdout": MemorySink(lambda _: Refused("too large"))}):
        await collector.until(lambda: bool(collector.named("process orders")))
    (process,), (send,) = collector.named("process orders"), collector.named("send stdout")
    assert (send.failed, send.span.status.message) == ("refused", "too large")
    assert (process.failed, process.span.status.message) == ("left to the broker", "refused")


async def test_a_dead_letter_goes_on_with_the_trace(
    emulator: Emulator, collector: Collector, receiver: Receiver, tmp_path: Path
) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    emulator.publish(TOPIC, "poison", properties={"traceparent": traceparent})
    letters = {"DEAD_LETTER__SINK": "webhook", "DEAD_LETTER__WEBHOOK__URL": receiver.url}
    async with tracing(emulator, tmp_path, letters, sinks={"stdout": MemorySink(lambda _: Refused("too large"))}):
        await until(lambda: acked(emulator) == 1)
    (process,), (burial,) = collector.named("process orders"), collector.named("dead-letter webhook")
    assert [process.trace, process.parent] == traceparent.split("-")[1:3]
    assert (burial.parent, burial.failed, process.failed) == (process.id, None, None)
    assert burial.is_named_by(receiver.requests[0].headers["traceparent"])


async def test_a_send_lasts_until_its_answer_comes(emulator: Emulator, collector: Collector, tmp_path: Path) -> None:
    answers: list[asyncio.Future[Confirmed | Refused | Again]] = []

    def later(_: Event) -> Outcome:
        answers.append(asyncio.get_running_loop().create_future())
        return Unknown(answers[-1])

    emulator.publish(TOPIC, "a message")
    async with tracing(emulator, tmp_path, sinks={"stdout": MemorySink(later)}):
        await until(lambda: bool(answers))
        await collector.until(lambda: bool(collector.named("poll orders")))
        assert not collector.named("send stdout")
        answers[0].set_result(CONFIRMED)
        await until(lambda: acked(emulator) == 1)
    (send,), (process,) = collector.named("send stdout"), collector.named("process orders")
    assert send.failed is process.failed is None


async def test_an_ack_that_fails_has_a_span_and_is_not_the_end(
    emulator: Emulator, collector: Collector, tmp_path: Path
) -> None:
    emulator.faults.ack_refused = 1
    emulator.publish(TOPIC, "a message")
    async with tracing(emulator, tmp_path, sinks={"stdout": MemorySink()}):
        await collector.until(lambda: bool(collector.named("ack orders")))
        emulator.faults.ack_refused = 0
        await until(lambda: acked(emulator) == 1)
    acks, (process,) = collector.named("ack orders"), collector.named("process orders")
    assert (acks[0].failed, acks[-1].failed) == ("TryAgainError", None)
    assert process.failed is None


async def test_an_ack_that_comes_too_late_fails_the_span_of_its_message(collector: Collector, tmp_path: Path) -> None:
    sink = MemorySink()
    async with Emulator(invisible_seconds=5.0) as emulator:
        emulator.faults.ack_refused = 1
        emulator.publish(TOPIC, "a message")
        async with tracing(emulator, tmp_path, sinks={"stdout": sink}):
            await collector.until(lambda: bool(collector.named("process orders")))
            emulator.faults.ack_refused = 0
            await until(lambda: acked(emulator) == 1)
    first, *others = collector.named("process orders")
    assert first.failed == "expired"
    assert others[-1].failed is None
    assert len(sink.sent) == 1
    assert others[-1].attributes["bridge.consumed_times"] == len(others) + 1
