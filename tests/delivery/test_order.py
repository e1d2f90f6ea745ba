"""Promise 5: order holds where it was asked for."""

import asyncio
import random
from collections.abc import Sequence

from bridge.delivery.engine import Rules
from bridge.emulator.queues import Subscription
from bridge.errors import ThrottledError, TryAgainError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import GROUP, TOPIC, StillOut, world


def shard_and_number(event: Event) -> tuple[str, int]:
    shard, _, number = str(event.body).partition(" ")
    return shard, int(number)


def test_the_events_of_a_shard_reach_the_sink_one_after_the_other() -> None:
    async def main() -> None:
        async with world(rules=Rules(ordered=True)) as w:
            for number in range(20):
                for shard in "abc":
                    w.source.publish(f"{shard} {number}", shard=shard)
            w.source.publish("none 0", "none 1")
            await w.until(lambda: len(w.acked) == 62, seconds=30)
            for events in w.sink.sends:
                assert len(events) <= 4  # one of a shard
            order = [shard_and_number(event) for event in w.sink.confirmed]
            for shard in ("a", "b", "c", "none"):
                numbers = [number for of, number in order if of == shard]
                assert numbers == sorted(numbers)

    run(main())


def test_a_failure_stops_its_shard_only_and_only_a_confirmed_prefix_is_acked() -> None:
    async def main() -> None:
        failing = True

        def answer(event: Event) -> Outcome:
            return Again("500") if event.body == "a 2" and failing else CONFIRMED

        async with world(MemorySink(answer), lease=60, rules=Rules(ordered=True)) as w:
            ids = [w.source.publish(f"a {number}", shard="a")[0] for number in range(5)]
            others = [w.source.publish(f"b {number}", shard="b")[0] for number in range(5)]
            await asyncio.sleep(50)
            assert sorted(w.acked) == sorted(ids[:2] + others)
            failing = False
            await w.until(lambda: len(w.acked) == 10, seconds=120)
            assert [e.body for e in w.sink.confirmed if e.id in ids] == [f"a {number}" for number in range(5)]

    run(main())


def test_an_unknown_answer_holds_its_shard() -> None:
    async def main() -> None:
        answer = StillOut(lambda event: event.body == "a 0")
        async with world(MemorySink(answer), lease=60, rules=Rules(ordered=True)) as w:
            ids = [w.source.publish(f"a {number}", shard="a")[0] for number in range(3)]
            await asyncio.sleep(200)  # redelivered thrice meanwhile
            assert w.sink.sent == ids[:1]
            answer.answers[0].set_result(CONFIRMED)
            await w.until(lambda: w.acked == ids, seconds=2)
            assert w.sink.sent == ids

    run(main())


def test_a_shard_goes_on_when_all_sinks_have_confirmed() -> None:
    async def main() -> None:
        slow = MemorySink()
        slow.hold.clear()
        async with world(others={"slow": slow}, rules=Rules(ordered=True)) as w:
            ids = w.source.publish("a 0", "a 1", shard="a")
            await asyncio.sleep(100)
            assert (w.sink.sent, slow.sent, w.acked) == (ids[:1], ids[:1], [])
            slow.hold.set()
            await w.until(lambda: w.acked == ids, seconds=2)
            assert w.sink.sent == slow.sent == ids

    run(main())


def test_more_of_a_shard_is_left_while_an_answer_from_before_its_lease_ended_is_out() -> None:
    async def main() -> None:
        answer = StillOut(lambda event: event.body == "a 0")
        async with world(MemorySink(answer), lease=10, rules=Rules(ordered=True)) as w:
            broker, ordered = w.source.broker, Subscription(ordered=True)
            ids = w.source.publish("a 0", "a 1", shard="a")
            await asyncio.sleep(5)
            w.engine.pollers.stop()
            w.engine.pollers.cut()  # another replica is given both next, and acks the first only
            await asyncio.sleep(10)
            first, _ = broker.consume(w.source.now(), TOPIC, GROUP, count=2, subscription=ordered)
            assert not broker.ack(w.source.now(), TOPIC, GROUP, [first.receipt_handle])
            await asyncio.sleep(10)
            batch = await w.source.receive(16, 0)
            await w.engine.pipeline.deliver(batch.deliveries)
            assert [delivery.event.id for delivery in batch.deliveries] == ids[1:]
            assert w.facts.counts.left == {"shard busy": 1}
            answer.answers[0].set_result(CONFIRMED)
            await asyncio.sleep(10)
            batch = await w.source.receive(16, 0)
            await w.engine.pipeline.deliver(batch.deliveries)
            assert w.sink.sent == w.acked == ids

    run(main())


def test_under_random_trouble_no_shard_is_ever_inverted() -> None:
    async def main(seed: int) -> None:
        rng = random.Random(seed)

        def answer(_: Event) -> Outcome:
            return Again("500") if rng.random() < 0.1 else CONFIRMED

        async with world(MemorySink(answer), lease=10, rules=Rules(ordered=True)) as w:
            for number in range(100):
                w.source.publish(f"{rng.choice('abcdefgh')} {number}", shard=None)
            for number in range(300):
                shard = rng.choice("abcdefgh")
                w.source.publish(f"{shard} {number}", shard=shard)
            await w.until(lambda: w.backlog == 0, seconds=7200)
            seen: dict[str, int] = {}
            for event in w.sink.confirmed:
                key, number = str(event.attributes.get("partitionkey")), shard_and_number(event)[1]
                assert seen.get(key, -1) < number
                seen[key] = number

    for seed in range(5):
        run(main(seed))


def test_a_redelivered_shard_whose_head_only_wants_its_ack_joins_the_answer_that_is_out_behind_it() -> None:
    async def main() -> None:
        answer = StillOut(lambda event: event.body == "a 1")
        async with world(MemorySink(answer), lease=10, rules=Rules(ordered=True)) as w:

            def refuse() -> None:
                if not answer.answers or w.facts.counts.received < 6:
                    raise TryAgainError("500")

            w.source.refuse_ack = refuse
            ids = [w.source.publish(f"a {number}", shard="a")[0] for number in range(3)]
            await w.until(lambda: w.facts.counts.received >= 6, seconds=60)
            await asyncio.sleep(5)
            assert w.sink.sent == ids[:2]
            assert w.acked == ids[:1]
            answer.answers[0].set_result(CONFIRMED)
            await w.until(lambda: w.acked == ids, seconds=60)
            assert w.sink.sent == ids

    run(main())


def test_acks_that_fail_hold_up_neither_a_shard_nor_the_ack_of_what_it_has_confirmed_since() -> None:
    class SlowAtFirst(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            await asyncio.sleep(5 if len(self.sent) < 2 else 0)
            return await super().send(events, deadline)

    async def main() -> None:
        async with world(SlowAtFirst(), lease=60, rules=Rules(ordered=True)) as w:
            works = False

            def refuse() -> None:
                if not works:
                    raise TryAgainError("500")

            w.source.refuse_ack = refuse
            ids = [w.source.publish(f"a {number}", shard="a")[0] for number in range(3)]
            await w.until(lambda: w.sink.sent == ids, seconds=30)
            works = True
            await w.until(lambda: w.acked == ids, seconds=10)

    run(main())


def test_while_acks_are_throttled_what_a_shard_has_confirmed_is_tried_before_its_lease_ends() -> None:
    class SlowAtFirst(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            await asyncio.sleep(2.5 if len(self.sent) < 2 else 0.5)
            return await super().send(events, deadline)

    async def main() -> None:
        async with world(SlowAtFirst(), lease=10, rules=Rules(ordered=True)) as w:

            def refuse() -> None:
                raise ThrottledError("too many")

            w.source.refuse_ack = refuse
            ids = [w.source.publish(f"a {number}", shard="a")[0] for number in range(3)]
            await asyncio.sleep(10)
            assert ids in w.source.acks
            assert len(w.source.acks) < 12

    run(main())


def test_at_shutdown_what_a_slow_shard_has_confirmed_is_acked() -> None:
    class Slow(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            await asyncio.sleep(5)
            return await super().send(events, deadline)

    async def main() -> None:
        async with world(Slow(), lease=300, rules=Rules(ordered=True, max_bytes=64 << 20)) as w:
            for number in range(16):
                w.source.publish(f"a {number}", shard="a")
            await asyncio.sleep(12)
            w.engine.drain()
            await asyncio.wait([w.running], timeout=45)
            assert w.running.done()
            assert len(w.acked) == len(w.sink.confirmed) > 5

    run(main())


def test_what_joins_a_shard_that_waits_for_an_answer_takes_room_too() -> None:
    """A sink that answers some shards and leaves others without an answer for longer than their leases."""
    bound, body = 1 << 20, "x" * 60_000

    def is_frozen(event: Event) -> bool:
        return str(event.attributes["partitionkey"]).startswith("frozen")

    async def main() -> None:
        still_out = StillOut(is_frozen)
        async with world(MemorySink(still_out), lease=60, rules=Rules(ordered=True, max_bytes=bound, wait_seconds=1)) as w:
            for number in range(40):
                w.source.publish("x", shard=f"frozen {number}")
                w.source.publish("x", shard=f"flows {number}")  # so that the sink isn't taken to be down
            await w.until(lambda: len(still_out.answers) == 40)
            for number in range(40):
                w.source.publish(*[body] * 15, shard=f"frozen {number}")
            most = 0
            for number in range(40, 240):
                w.source.publish("x", shard=f"flows {number}")
                await asyncio.sleep(1)
                most = max(most, w.facts.counts.received - w.facts.counts.acked - w.facts.counts.left.total())
            assert w.facts.counts.left["no room"] > 0
            assert most * len(body) <= 1.2 * bound + 40 * len(body)  # a poll on its way, and the heads, which are small
            w.sink.answer = lambda _: CONFIRMED
            for answer in still_out.answers:
                answer.set_result(CONFIRMED)
            await w.until(lambda: w.backlog == 0, seconds=7200)
            await w.until(lambda: w.facts.beside == 0)
            assert w.room.fits_beside(bound // 2)  # nothing is held that nobody gave back

    run(main())
