"""How trouble ends: outages, acks that fail, and shutdowns on a bad day."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from bridge.delivery import pipeline
from bridge.delivery.engine import Rules
from bridge.errors import SinkDownError, ThrottledError, TryAgainError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, Refused, Unknown
from bridge.source import Batch
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import StillOut, Unprobed, world


def test_what_a_shard_has_confirmed_is_acked_within_seconds_while_its_next_event_hangs() -> None:
    class Hanging(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            if any(event.body == "a 1" for event in events):
                await asyncio.Event().wait()
            return await super().send(events, deadline)

    async def main() -> None:
        async with world(Hanging(), rules=Rules(ordered=True)) as w:
            ids = w.source.publish("a 0", "a 1", shard="a")
            await w.until(lambda: w.acked == ids[:1], seconds=5)
            w.engine.interrupt()
            w.engine.interrupt()

    run(main())


def test_what_was_confirmed_and_not_acked_at_shutdown_is_told_with_its_time() -> None:
    async def main() -> None:
        async with world(rules=Rules(grace_seconds=4)) as w:
            w.source.ack_seconds = 1e6
            w.source.publish("a")
            await asyncio.sleep(1)
            lease_ends = asyncio.get_running_loop().time() + 299
            w.engine.drain()
            await asyncio.wait([w.running])
            assert w.facts.counts.not_acked == {"shutdown": 1}
            assert w.facts.left_until == pytest.approx(lease_ends, abs=0.1)

    run(main())


def test_at_the_end_of_the_grace_every_event_of_every_shard_is_accounted_for() -> None:
    async def main() -> None:
        async with world(rules=Rules(ordered=True, grace_seconds=4)) as w:
            w.source.ack_seconds = 3
            w.sink.hold.clear()
            w.source.publish(*(f"a {number}" for number in range(10)), shard="a")
            await asyncio.sleep(3)
            w.sink.hold.set()
            await asyncio.sleep(1)
            w.engine.interrupt()
            w.engine.interrupt()
            await asyncio.wait([w.running])
            counts = w.facts.counts
            assert counts.received == counts.acked + sum(counts.left.values()) + sum(counts.not_acked.values())

    run(main())


def test_a_damaged_message_of_which_nothing_can_be_read_holds_what_follows_it_once_only() -> None:
    async def main() -> None:
        async with world(lease=60, rules=Rules(ordered=True)) as w:
            receive = w.source.receive

            async def damaging(max_messages: int, wait_seconds: int) -> Batch:
                batch = await receive(max_messages, wait_seconds)
                torn = [
                    replace(d, damage="torn", shard="", consumed_times=1) if d.event.body == "torn" else d
                    for d in batch.deliveries
                ]
                return replace(batch, deliveries=torn)

            w.source.receive = damaging  # type: ignore[method-assign]
            await asyncio.sleep(1)
            w.source.publish("torn", shard="a")
            others = w.source.publish("b 0", "b 1", shard="b")
            await asyncio.sleep(50)
            assert not w.acked
            await w.until(lambda: w.acked == others, seconds=60)

    run(main())


def test_after_an_outage_the_acks_of_what_was_parked_are_gathered() -> None:
    async def main() -> None:
        async with world() as w:
            await w.until(lambda: not w.outlet.down)
            w.sink.hold.clear()
            w.source.publish(*(f"m{number}" for number in range(200)))
            await w.until(lambda: w.facts.counts.received >= 112, seconds=5)
            w.sink.trouble = SinkDownError("no connection")
            w.sink.hold.set()
            await asyncio.sleep(60)
            held = w.facts.beside
            acks = len(w.source.acks)
            w.sink.trouble = None
            await w.until(lambda: not w.facts.beside, seconds=60)
            assert held > 100
            acks_of_held = len(w.source.acks) - acks - (200 - held) // 16
            assert acks_of_held <= held / 16 + 4

    run(main())


def test_throttled_acks_are_not_hammered_by_all_that_wait_beside_the_flow() -> None:
    async def main() -> None:
        answer = StillOut(lambda event: str(event.body).startswith("slow"))
        async with world(MemorySink(answer)) as w:
            w.source.publish(*("slow" if number % 2 else "fast" for number in range(120)))
            await w.until(lambda: len(answer.answers) == 60, seconds=10)

            def refuse() -> None:
                raise ThrottledError("QpsLimitExceeded")

            w.source.refuse_ack = w.source.refuse_poll = refuse
            for one in answer.answers:
                one.set_result(CONFIRMED)
            calls = len(w.source.polls) + len(w.source.acks)
            await asyncio.sleep(60)
            assert len(w.source.polls) + len(w.source.acks) - calls < 25
            w.source.refuse_ack = w.source.refuse_poll = lambda: None
            await w.until(lambda: len(w.acked) == 120, seconds=31)

    run(main())


def test_a_message_whose_every_ack_is_refused_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = LogCapture()
    monkeypatch.setattr(pipeline, "log", structlog.wrap_logger(None, processors=[lines]))

    async def main() -> None:
        async with world() as w:
            real = w.source.broker.ack
            w.source.broker.ack = lambda *_, **__: real(w.source.now(), "orders", "GID_other", _[3])  # type: ignore[method-assign]
            w.source.publish("a")
            await asyncio.sleep(3000)

    run(main())
    assert [line["code"] for line in lines.entries] == ["ReceiptHandleError"]


@pytest.mark.parametrize("seconds", [10, 100, 250])
@pytest.mark.parametrize("messages", [1, 2])
def test_the_outage_of_a_sink_without_a_probe_ends_within_the_ceiling_though_few_messages_are_held(
    messages: int, seconds: float
) -> None:
    async def main() -> None:
        async with world(Unprobed()) as w:
            await w.until(lambda: not w.outlet.down)
            w.sink.trouble = SinkDownError("no connection")
            ids = w.source.publish(*(f"m{number}" for number in range(messages)))
            await asyncio.sleep(seconds)
            w.sink.trouble = None
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=31)
            assert w.facts.counts.received == messages

    run(main())


def test_an_outage_ends_although_poison_comes_again_before_anything_else_does() -> None:
    async def main() -> None:
        sink = MemorySink(lambda event: Refused("never") if str(event.body) == "poison" else CONFIRMED)
        async with world(sink, lease=10.0) as w:
            w.source.publish("poison", "sound", "poison", "sound", "poison", "sound")
            await w.until(lambda: len(w.acked) == 3, seconds=5)
            sink.trouble = SinkDownError("no connection")
            w.source.publish("sound", "sound", "sound")
            await asyncio.sleep(100)
            sink.trouble = None
            await w.until(lambda: len(w.acked) == 6, seconds=60)

    run(main())


def test_an_outage_does_not_wait_for_an_event_that_sleeps_for_minutes_as_its_receiver_asked() -> None:
    async def main() -> None:
        sink = Unprobed(lambda event: Again("429", 250) if event.body == "limited" else CONFIRMED)
        async with world(sink) as w:
            w.source.publish("limited")
            await asyncio.sleep(5)
            sink.trouble = SinkDownError("no connection")
            w.source.publish("tried in vain")
            await asyncio.sleep(20)  # so often that it isn't fit for a trial any more
            sink.trouble = None
            ids = w.source.publish(*(f"m{number}" for number in range(50)))
            await w.until(lambda: set(ids) <= set(w.acked), seconds=31)

    run(main())


def test_an_outage_is_not_prolonged_by_messages_that_only_want_their_acks() -> None:
    """They have nothing to do at the sink, so they can't show whether it is up."""

    def refuse() -> None:
        raise TryAgainError("500")

    async def main() -> None:
        async with world() as w:
            w.source.refuse_ack = refuse
            w.source.publish(*(f"m{number}" for number in range(32)))
            await asyncio.sleep(280)
            w.sink.trouble = SinkDownError("no connection")
            w.outlet.fails("no connection")
            await w.until(lambda: w.facts.counts.not_acked["expired"] == 32, seconds=30)
            w.sink.trouble, w.source.refuse_ack = None, lambda: None
            assert w.backlog == 32  # they are there again, before the next
            w.source.publish("new")
            await w.until(lambda: not w.outlet.down, seconds=32 + 31)
            await w.until(lambda: len(w.acked) == 33, seconds=1)

    run(main())


@pytest.mark.parametrize(("kind", "wrong"), [(Refused, [ValueError("x")]), (Again, ["x", "5"]), (Unknown, [None])])
def test_an_outcome_that_is_made_of_the_wrong_things_breaks_the_contract_and_ends_nothing(kind: Any, wrong: list[Any]) -> None:
    async def main() -> None:
        async with world(Unprobed(lambda event: kind(*wrong) if event.body == "bad" else CONFIRMED)) as w:
            w.source.publish("bad")
            await w.until(lambda: w.facts.sinks["memory"].last_error is not None, seconds=5)
            assert "of an outcome can't be of type" in str(w.facts.sinks["memory"].last_error)
            (good,) = w.source.publish("good")
            await w.until(lambda: good in w.acked, seconds=60)

    run(main())
