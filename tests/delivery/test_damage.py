"""Promises 5 and 6: what can't be read, in its place among what can."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from bridge.delivery.engine import Rules
from bridge.sinks import CONFIRMED, Again
from bridge.source import Batch, Delivery
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import StillOut, World, world

ORDERED = Rules(ordered=True)


def damage(w: World, arrives: Callable[[Delivery], Delivery]) -> None:
    receive = w.source.receive

    async def damaging(max_messages: int, wait_seconds: int) -> Batch:
        batch = await receive(max_messages, wait_seconds)
        return replace(batch, deliveries=[arrives(delivery) for delivery in batch.deliveries])

    w.source.receive = damaging  # type: ignore[method-assign]


def unreadable(body: str, *, deliveries: int, shard: str = "") -> Callable[[Delivery], Delivery]:
    """That message arrives damaged, so many times; its shard is unknown when it is not given."""

    def arrives(delivery: Delivery) -> Delivery:
        broken = delivery.event.body == body and delivery.consumed_times <= deliveries
        return replace(delivery, damage="its XML is broken", shard=shard) if broken else delivery

    return arrives


def bodies(sink: MemorySink) -> list[str]:
    return [str(event.body) for event in sink.confirmed]


def test_what_follows_damage_of_an_unknown_shard_waits_for_it_to_come_again() -> None:
    async def main() -> None:
        async with world(lease=60, rules=ORDERED) as w:
            damage(w, unreadable("a 0", deliveries=1))
            for number in range(3):
                w.source.publish(f"a {number}", shard="a")
            await w.until(lambda: len(w.acked) == 3, seconds=70)
            assert bodies(w.sink) == ["a 0", "a 1", "a 2"]

    run(main())


def test_what_can_never_be_read_holds_others_of_its_batch_for_one_lease() -> None:
    async def main() -> None:
        async with world(lease=60, rules=ORDERED) as w:
            damage(w, unreadable("a 0", deliveries=1000))
            w.source.publish("a 0", shard="a")
            w.source.publish("b 0", shard="b")
            await w.until(lambda: bodies(w.sink) == ["b 0"], seconds=70)
            await w.until(lambda: len(w.acked) == 1, seconds=5)

    run(main())


def test_damage_of_a_known_shard_is_buried_in_its_place() -> None:
    async def main() -> None:
        letters = MemorySink()
        letters.hold.clear()
        async with world(lease=60, dead_letters=letters, rules=ORDERED) as w:
            damage(w, unreadable("a 1", deliveries=1, shard="a"))
            ids = [w.source.publish(f"a {number}", shard="a")[0] for number in range(3)]
            w.source.publish("b 0", shard="b")
            await asyncio.sleep(10)
            assert sorted(bodies(w.sink)) == ["a 0", "b 0"]
            letters.hold.set()
            await w.until(lambda: len(w.acked) == 4, seconds=1)
            assert bodies(w.sink)[-1] == "a 2"
            assert [event.id for event in letters.confirmed] == [ids[1]]

    run(main())


def test_damage_of_a_known_shard_that_nobody_buries_stops_that_shard_only() -> None:
    async def main() -> None:
        async with world(lease=60, rules=ORDERED) as w:
            damage(w, unreadable("a 1", deliveries=1000, shard="a"))
            for number in range(3):
                w.source.publish(f"a {number}", shard="a")
                w.source.publish(f"b {number}", shard="b")
            await asyncio.sleep(200)
            assert sorted(bodies(w.sink)) == ["a 0", "b 0", "b 1", "b 2"]

    run(main())


def test_one_dead_letter_at_a_time_is_out_about_a_message_though_it_is_in_two_lanes() -> None:
    """Damaged it was in a lane of its own, and buried; now it can be read, fails in its shard, and would be buried again."""

    async def main() -> None:
        unanswered = StillOut()
        letters = MemorySink(unanswered)
        sink = MemorySink(lambda _: Again("500"))
        async with world(sink, lease=60, dead_letters=letters, rules=Rules(ordered=True, max_deliveries=2)) as w:
            damage(w, unreadable("a 0", deliveries=1))
            ids = w.source.publish("a 0", shard="a")
            await w.until(lambda: len(unanswered.answers) == 1, seconds=1)
            await asyncio.sleep(115)
            assert len(sink.sends) > 3  # in the second lease
            assert len(letters.sends) == 1
            unanswered.answers[0].set_result(CONFIRMED)
            await w.until(lambda: w.acked == ids, seconds=1)
            assert len(letters.sends) == 1

    run(main())


def test_a_lease_that_cannot_be_read_says_nothing_of_the_brokers_clock() -> None:
    async def main() -> None:
        async with world(dead_letters=MemorySink()) as w:
            damage(w, lambda delivery: replace(delivery, damage="its lease", expires_at=delivery.received_at))
            w.source.publish("a")
            await asyncio.sleep(1)
            assert w.facts.counts.damaged == 1
            assert w.facts.rocketmq.ok
            assert not w.facts.counts.polls["error"]

    run(main())
