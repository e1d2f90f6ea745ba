"""Promises 1 and 2: acked is exactly what the sink has confirmed, and a confirmed event is not written twice."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bridge.delivery.engine import Rules
from bridge.errors import FixSettingsError, SinkGoneError, TryAgainError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, Refused, Unknown
from bridge.source import Batch, Delivery
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import StillOut, world


def test_of_a_batch_exactly_the_confirmed_events_are_acked() -> None:
    def answer(event: Event) -> Outcome:
        kinds: dict[object, Outcome] = {
            "refused": Refused("bad"),
            "again": Again("busy"),
            "unknown": Unknown(asyncio.get_running_loop().create_future()),
        }
        return kinds.get(event.body, CONFIRMED)

    async def main() -> None:
        async with world(MemorySink(answer), rules=Rules(max_bytes=64 << 20)) as w:
            ids = w.source.publish("a", "refused", "b", "again", "c", "unknown")
            await asyncio.sleep(5)
            assert w.acked == [ids[0], ids[2], ids[4]]
            assert w.source.acks == [[ids[0], ids[2], ids[4]]]  # with one request

    run(main())


def test_nothing_is_acked_while_the_sink_has_not_answered() -> None:
    async def main() -> None:
        async with world() as w:
            w.sink.hold.clear()
            w.source.publish("a")
            await asyncio.sleep(200)
            assert w.sink.sends
            assert not w.source.acks
            w.sink.hold.set()
            await w.until(lambda: len(w.acked) == 1, seconds=1)

    run(main())


@pytest.mark.parametrize("trouble", [ZeroDivisionError("a bug"), ValueError("another")])
def test_a_sink_that_raises_what_it_should_not_has_confirmed_nothing(trouble: Exception) -> None:
    class Broken(MemorySink):
        async def send(self, events: object, deadline: float) -> list[Outcome]:
            raise trouble

    async def main() -> None:
        async with world(Broken()) as w:
            w.source.publish("a", "b")
            await asyncio.sleep(60)
            assert not w.source.acks
            assert w.outlet.down

    run(main())


def test_a_sink_that_answers_for_too_few_events_has_confirmed_none() -> None:
    class Short(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> list[Outcome]:
            return [CONFIRMED] * (len(events) - 1)

    async def main() -> None:
        async with world(Short()) as w:
            w.source.publish("a", "b")
            await asyncio.sleep(60)
            assert not w.source.acks

    run(main())


def test_a_sink_that_has_gone_for_good_ends_everything() -> None:
    async def main() -> None:
        sink = MemorySink()
        with pytest.raises(ExceptionGroup) as caught:
            async with world(sink) as w:
                sink.trouble = SinkGoneError("stdout was closed")
                w.source.publish("a")
                await asyncio.sleep(60)
        assert caught.group_contains(SinkGoneError)

    run(main())


@pytest.mark.parametrize("problem", [TryAgainError("500"), FixSettingsError("403", code="AccessDenied")])
def test_an_ack_that_fails_is_tried_again_while_the_lease_lasts(problem: Exception) -> None:
    async def main() -> None:
        async with world() as w:
            failing = iter([True] * 5)

            def refuse() -> None:
                if next(failing, False):
                    raise problem

            w.source.refuse_ack = refuse
            ids = w.source.publish("a", "b")
            await w.until(lambda: w.acked == ids, seconds=30)
            assert len(w.source.acks) == 6
            assert w.sink.sent == ids

    run(main())


def test_an_ack_that_fails_past_the_lease_is_remembered_and_the_redelivery_is_acked_without_being_sent() -> None:
    async def main() -> None:
        async with world(lease=20) as w:
            lease_over = w.source.now() + 20_000

            def refuse() -> None:
                if w.source.now() < lease_over:
                    raise TryAgainError("no answer")

            w.source.refuse_ack = refuse
            ids = w.source.publish("a")
            await w.until(lambda: w.acked == ids, seconds=60)
            assert w.sink.sent == ids
            assert w.facts.counts.remembered == 1
            assert w.facts.counts.not_acked == {"expired": 1}

    run(main())


def test_when_the_answer_of_an_ack_is_lost_nothing_is_sent_again() -> None:
    async def main() -> None:
        async with world() as w:
            lost = iter([TryAgainError("cut", answer_lost=True)])
            w.source.lose_ack_answer = lambda: next(lost, None)
            ids = w.source.publish("a")
            await asyncio.sleep(1000)
            assert w.acked == ids
            assert w.sink.sent == ids

    run(main())


def test_a_message_whose_every_ack_is_refused_is_sent_once_and_acked_once_a_delivery() -> None:
    """The field report of protocol.md 3.4."""

    async def main() -> None:
        async with world() as w:
            real = w.source.broker.ack
            w.source.broker.ack = lambda *_, **__: real(w.source.now(), "orders", "GID_other", _[3])  # type: ignore[method-assign]
            w.source.publish("a")
            await asyncio.sleep(3000)
            deliveries = w.facts.counts.received
            assert deliveries == 10
            assert len(w.sink.sent) == 1
            assert len(w.source.acks) == deliveries
            assert w.facts.counts.not_acked == {"ReceiptHandleError": deliveries}

    run(main())


def test_an_answer_that_comes_after_the_lease_is_remembered_and_never_acked_late() -> None:
    async def main() -> None:
        answer = StillOut()
        async with world(MemorySink(answer), lease=10) as w:
            ids = w.source.publish("a")
            await asyncio.sleep(9.999)  # the lease is nearly over
            w.engine.pollers.stop()  # so that the redelivery doesn't come before the answer
            await asyncio.sleep(30)
            answer.answers[0].set_result(CONFIRMED)
            await asyncio.sleep(1)
            assert not w.source.acks
            assert ids[0] in w.ledger

    run(main())


def test_a_redelivery_of_an_event_whose_answer_is_out_is_not_sent_and_is_acked_with_its_own_receipt() -> None:
    async def main() -> None:
        answer = StillOut()
        async with world(MemorySink(answer), lease=10) as w:
            ids = w.source.publish("a")
            await w.until(lambda: w.facts.counts.received == 3, seconds=40)
            assert w.sink.sent == ids
            answer.answers[0].set_result(CONFIRMED)
            await w.until(lambda: w.acked == ids, seconds=1)
            assert len(answer.answers) == 1

    run(main())


def test_a_send_that_hangs_is_not_cancelled_and_its_late_answer_counts() -> None:
    async def main() -> None:
        async with world(lease=10) as w:
            w.sink.hold.clear()
            ids = w.source.publish("a")
            await w.until(lambda: w.facts.counts.received == 2, seconds=30)
            assert w.sink.sent == ids
            w.sink.hold.set()
            await w.until(lambda: w.acked == ids, seconds=1)
            assert [event.id for event in w.sink.confirmed] == ids

    run(main())


def test_a_redelivery_that_comes_while_the_ack_is_still_out_is_not_sent_again() -> None:
    async def main() -> None:
        async with world(lease=10) as w:
            w.source.ack_seconds = 12
            ids = w.source.publish("a")
            await w.until(lambda: w.facts.counts.received == 2, seconds=30)
            w.source.ack_seconds = 0.001
            await w.until(lambda: w.acked == ids, seconds=30)
            assert w.sink.sent == ids

    run(main())


@pytest.mark.parametrize("answer", [None, [None], ["confirmed"], 7], ids=repr)
def test_an_answer_that_is_no_outcome_confirms_nothing_and_is_an_outage(answer: object) -> None:
    class Wrong(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> list[Outcome]:
            return answer  # type: ignore[return-value]

    async def main() -> None:
        async with world(Wrong()) as w:
            w.source.publish("a")
            await asyncio.sleep(600)
            assert not w.source.acks
            assert w.outlets.down

    run(main())


def test_an_answer_that_breaks_off_is_tried_again() -> None:
    async def main() -> None:
        answers: list[asyncio.Future[Outcome]] = []

        def answer(_: Event) -> Outcome:
            if answers:
                return CONFIRMED
            answers.append(asyncio.get_running_loop().create_future())
            return Unknown(answers[-1])  # type: ignore[arg-type]

        async with world(MemorySink(answer)) as w:
            ids = w.source.publish("a")
            await asyncio.sleep(1)
            answers[0].set_exception(ConnectionError("reset"))
            await w.until(lambda: w.acked == ids, seconds=10)

    run(main())


def test_redeliveries_of_unanswered_events_that_found_no_room_are_not_sent_again() -> None:
    async def main() -> None:
        answer = StillOut()
        async with world(MemorySink(answer), lease=10, rules=Rules(max_bytes=2 << 20)) as w:
            ids = w.source.publish(*(f"{number}" + "x" * 400_000 for number in range(4)))
            await w.until(lambda: w.facts.counts.received >= 12, seconds=60)
            assert w.facts.counts.left["no room"] > 0
            for one in answer.answers:
                one.set_result(CONFIRMED)
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=60)
            assert sorted(w.sink.sent) == sorted(ids)

    run(main())


def test_a_redelivery_without_a_receipt_of_what_is_unanswered_is_not_acked() -> None:
    async def main() -> None:
        answer = StillOut()
        async with world(MemorySink(answer), lease=10, rules=Rules(max_bytes=2 << 20)) as w:
            receive = w.source.receive

            async def losing_receipts(max_messages: int, wait_seconds: int) -> Batch:
                batch = await receive(max_messages, wait_seconds)
                return replace(batch, deliveries=[without_receipt(d) if d.consumed_times == 2 else d for d in batch.deliveries])

            w.source.receive = losing_receipts  # type: ignore[method-assign]
            ids = w.source.publish(*(f"{number}" + "x" * 400_000 for number in range(4)))
            await w.until(lambda: w.facts.counts.left["no room"] == 2, seconds=5)
            for answered in answer.answers[:2]:  # which makes room
                answered.set_result(CONFIRMED)
            await w.until(lambda: w.facts.counts.received == 6, seconds=20)
            for answered in answer.answers[2:]:
                answered.set_result(CONFIRMED)
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=60)
            assert sorted(w.sink.sent) == sorted(ids)

    run(main())


def without_receipt(delivery: Delivery) -> Delivery:
    return replace(delivery, receipt="", damage="without a receipt handle")
