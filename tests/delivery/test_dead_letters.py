"""Dead letters: what can't be delivered goes to a sink of its own, for a reason, and is acked only when that has confirmed."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from bridge.delivery.engine import Rules
from bridge.errors import SinkDownError
from bridge.event import ENVELOPES, Event
from bridge.sinks import CONFIRMED, Again, Outcome, Refused
from bridge.source import Batch
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import world


def picky(event: Event) -> Outcome:
    if str(event.body).startswith("bad"):
        return Refused("too\nlarge")
    return Again("500") if str(event.body).startswith("failing") else CONFIRMED


def test_a_refused_event_is_buried_with_its_reason_and_acked_and_the_flow_is_undisturbed() -> None:
    async def main() -> None:
        letters = MemorySink()
        async with world(MemorySink(picky), dead_letters=letters) as w:
            ids = w.source.publish("a", "bad", "b", "c")
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=5)
            (letter,) = letters.confirmed
            assert letter.id == ids[1]
            assert letter.body == "bad"
            assert letter.attributes["mqdeadreason"] == "refused"
            assert letter.attributes["mqdeaderror"] == "too large"
            assert letter.attributes["mqdeadsink"] == "memory"
            assert w.sink.sent.count(ids[1]) == 1
            assert w.facts.counts.dead_letters == {"refused": 1}

    run(main())


def test_a_dead_letter_tells_why_whatever_the_envelope() -> None:
    async def main() -> None:
        letters = MemorySink()
        async with world(MemorySink(picky), dead_letters=letters) as w:
            receive = w.source.receive

            async def bodies_alone(max_messages: int, wait_seconds: int) -> Batch:
                batch = await receive(max_messages, wait_seconds)
                bare = [replace(d, event=replace(d.event, envelope=ENVELOPES["body"])) for d in batch.deliveries]
                return replace(batch, deliveries=bare)

            w.source.receive = bodies_alone  # type: ignore[method-assign]
            w.source.publish("bad")
            await w.until(lambda: len(letters.confirmed) == 1, seconds=60)
            assert b'"mqdeadreason":"refused"' in letters.confirmed[0].structured()

    run(main())


def test_a_dead_letter_sink_that_is_down_leaves_the_message_and_pauses_nobody() -> None:
    async def main() -> None:
        letters = MemorySink()
        letters.trouble = SinkDownError("no such topic")
        async with world(MemorySink(picky), dead_letters=letters) as w:
            (bad,) = w.source.publish("bad")
            good = w.source.publish(*(f"m{number}" for number in range(50)))
            await w.until(lambda: w.acked == good, seconds=5)
            assert not w.outlets.down
            letters.trouble = None
            await w.until(lambda: len(w.acked) == 51, seconds=310)  # with its next delivery
            assert [event.id for event in letters.confirmed] == [bad]

    run(main())


def test_what_keeps_failing_is_buried_when_its_deliveries_have_reached_the_limit_and_not_before() -> None:
    async def main() -> None:
        letters = MemorySink()
        async with world(MemorySink(picky), dead_letters=letters, lease=30, rules=Rules(max_deliveries=3)) as w:
            (bad,) = w.source.publish("failing")
            for number in range(58):
                w.source.publish(f"good {number}")
                await asyncio.sleep(1)
            assert not letters.sent
            await w.until(lambda: bad in w.acked, seconds=40)
            (letter,) = letters.confirmed
            assert (letter.attributes["mqdeadreason"], letter.attributes["mqconsumedtimes"]) == ("deliveries", 3)

    run(main())


def test_an_outage_makes_no_dead_letters_however_often_a_message_has_been_delivered() -> None:
    async def main() -> None:
        letters, sink = MemorySink(), MemorySink()
        async with world(sink, dead_letters=letters, lease=20, rules=Rules(max_deliveries=1)) as w:
            await w.until(lambda: not w.outlets.down)
            sink.trouble = SinkDownError("401")
            ids = w.source.publish(*(f"m{number}" for number in range(50)))
            await asyncio.sleep(600)
            assert not letters.sent
            sink.trouble = None
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=120)
            assert not letters.sent

    run(main())


def test_refusals_that_pile_up_are_an_outage_and_cost_one_dead_letter_a_probe_interval() -> None:
    async def main() -> None:
        letters = MemorySink()
        async with world(MemorySink(lambda _: Refused("400")), dead_letters=letters) as w:
            await w.until(lambda: not w.outlets.down)
            w.source.publish(*(f"m{number}" for number in range(500)))
            await asyncio.sleep(240)
            assert w.outlets.down
            assert 4 <= len(letters.confirmed) <= 30
            w.sink.answer = lambda _: CONFIRMED
            await w.until(lambda: w.backlog == 0, seconds=400)

    run(main())


def test_a_damaged_message_is_buried_with_its_original_bytes() -> None:
    async def main() -> None:
        letters = MemorySink()
        async with world(dead_letters=letters) as w:
            receive = w.source.receive

            async def damaging(max_messages: int, wait_seconds: int) -> Batch:
                batch = await receive(max_messages, wait_seconds)
                return replace(batch, deliveries=[replace(d, damage="its XML is broken") for d in batch.deliveries])

            w.source.receive = damaging  # type: ignore[method-assign]
            ids = w.source.publish("bytes")
            await w.until(lambda: w.acked == ids, seconds=60)
            (letter,) = letters.confirmed
            assert (letter.attributes["mqdeadreason"], letter.body) == ("damaged", "bytes")
            assert "mqdeadsink" not in letter.attributes
            assert not w.sink.sent

    run(main())


def test_in_ordered_mode_a_dead_letter_counts_as_confirmed_and_its_shard_goes_on() -> None:
    async def main() -> None:
        letters = MemorySink()
        async with world(MemorySink(picky), dead_letters=letters, rules=Rules(ordered=True)) as w:
            ids = [w.source.publish(body, shard="s")[0] for body in ("a", "bad", "b")]
            await w.until(lambda: w.acked == ids, seconds=10)
            assert [event.body for event in w.sink.confirmed] == ["a", "b"]
            assert [event.body for event in letters.confirmed] == ["bad"]

    run(main())


def test_an_event_whose_answers_come_at_the_deadline_is_buried_when_it_has_been_delivered_often_enough() -> None:
    class Late(MemorySink):
        """As the contract has it: it answers by the deadline."""

        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            await asyncio.sleep(deadline - asyncio.get_running_loop().time())
            return [Again("no answer in time")] * len(events)

    async def main() -> None:
        letters = MemorySink()
        async with world(Late(), dead_letters=letters, rules=Rules(max_deliveries=3)) as w:
            ids = w.source.publish("bad")
            await w.until(lambda: w.acked == ids, seconds=3 * 300)
            assert w.facts.counts.received == 3
            assert [event.attributes["mqdeadreason"] for event in letters.confirmed] == ["deliveries"]

    run(main())
