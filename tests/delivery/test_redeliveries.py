"""Promise 2: a redelivery that comes while the last delivery is still being seen to."""

import asyncio
from dataclasses import replace

from bridge.delivery.engine import Rules
from bridge.sinks import CONFIRMED
from bridge.source import Batch, Delivery
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import StillOut, World, world


async def redeliver(w: World) -> None:
    """The broker's clock is set forward, so that what is out comes again at once."""
    now = w.source.now
    w.source.now = lambda: now() + 100_000  # type: ignore[method-assign]
    batch = await w.source.receive(16, 0)
    assert batch.deliveries
    await w.engine.pipeline.deliver(batch.deliveries)


def test_an_event_whose_send_is_out_is_not_sent_again_and_is_acked_with_the_new_receipt() -> None:
    async def main() -> None:
        async with world(lease=60) as w:
            w.sink.hold.clear()
            ids = w.source.publish("a")
            await w.until(lambda: w.sink.sent == ids, seconds=1)
            await redeliver(w)
            w.sink.hold.set()
            await w.until(lambda: w.acked == ids, seconds=1)
            assert w.sink.sent == ids

    run(main())


def test_a_shard_whose_send_is_out_is_not_sent_by_another_poller_at_the_same_time() -> None:
    async def main() -> None:
        async with world(MemorySink(), lease=60, rules=Rules(ordered=True)) as w:
            w.sink.hold.clear()
            ids = [w.source.publish(f"a {number}", shard="a")[0] for number in range(3)]
            await w.until(lambda: w.sink.sent == ids[:1], seconds=1)
            await redeliver(w)
            await asyncio.sleep(1)
            w.sink.hold.set()
            await w.until(lambda: len(w.acked) == 3, seconds=1)
            assert w.sink.sent == ids
            assert w.facts.counts.left == {"expired": 3}  # as nobody acked them by their first receipts

    run(main())


def test_what_was_damaged_and_comes_again_sound_is_not_taken_for_what_was_sent_beside_it() -> None:
    async def main() -> None:
        async with world(lease=60) as w:
            receive = w.source.receive

            async def damaging(max_messages: int, wait_seconds: int) -> Batch:
                batch = await receive(max_messages, wait_seconds)
                return replace(batch, deliveries=[broken_at_first(delivery) for delivery in batch.deliveries])

            w.source.receive = damaging  # type: ignore[method-assign]
            w.sink.hold.clear()
            ids = w.source.publish("broken at first", "sound")
            await w.until(lambda: w.sink.sent == ids[1:], seconds=1)
            await redeliver(w)
            w.sink.hold.set()
            await w.until(lambda: w.acked == ids[1:], seconds=1)
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=200)
            assert sorted(w.sink.sent) == sorted(ids)

    run(main())


def broken_at_first(delivery: Delivery) -> Delivery:
    broken = delivery.event.body == "broken at first" and delivery.consumed_times == 1
    return replace(delivery, damage="its XML is broken") if broken else delivery


def test_however_often_it_comes_a_message_whose_answer_is_out_is_in_one_lane() -> None:
    async def main() -> None:
        out = StillOut()
        async with world(MemorySink(out), rules=Rules(max_bytes=200_000), lease=60) as w:
            w.source.publish("x" * 90_000)
            await asyncio.sleep(1)
            w.source.publish("y" * 20_000)  # which finds no room beside the first
            await asyncio.sleep(60)
            out.answers[0].set_result(CONFIRMED)
            await asyncio.sleep(300)
            assert w.facts.beside == 1
            out.answers[1].set_result(CONFIRMED)
            await w.until(lambda: len(w.acked) == 2, seconds=1)
            assert w.facts.counts.confirmed == 2
            assert not w.facts.beside

    run(main())
