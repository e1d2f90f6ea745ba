"""Several sinks, coupled on purpose: acked when all have confirmed, and none is sent again what it has confirmed."""

import asyncio

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, Refused
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import StillOut, world


def ids_of(sink: MemorySink) -> list[str]:
    return [event.id for event in sink.confirmed]


def test_a_message_is_acked_when_all_have_confirmed_it() -> None:
    async def main() -> None:
        other = MemorySink()
        other.hold.clear()
        async with world(others={"other": other}) as w:
            ids = w.source.publish("a", "b")
            await asyncio.sleep(100)
            assert ids_of(w.sink) == ids
            assert not w.source.acks
            other.hold.set()
            await w.until(lambda: w.acked == ids, seconds=5)
            assert (w.sink.sent, other.sent) == (ids, ids)

    run(main())


def test_retries_and_redeliveries_go_only_to_those_that_have_not_confirmed() -> None:
    async def main() -> None:
        failing = True
        other = MemorySink(lambda _: Again("500") if failing else CONFIRMED)
        async with world(others={"other": other}, lease=20) as w:
            ids = w.source.publish("a", "b")
            await w.until(lambda: w.facts.counts.received >= 6, seconds=200)
            failing = False
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=100)
            assert w.sink.sent == ids
            assert len(other.sent) > 6
            assert not [message_id for message_id in ids if w.ledger.has(message_id, "memory")]  # acked is forgotten

    run(main())


def test_one_that_is_down_for_two_leases_pauses_all_and_gets_each_event_afterwards() -> None:
    async def main() -> None:
        other = MemorySink()
        async with world(others={"other": other}, lease=30) as w:
            await w.until(lambda: not w.outlets.down)
            other.trouble = SinkDownError("no connection")
            ids = w.source.publish(*(f"m{number}" for number in range(40)))
            await asyncio.sleep(60)
            assert w.outlets.down
            assert len(w.sink.sent) < 40
            other.trouble = None
            await w.until(lambda: len(w.acked) == 40, seconds=120)
            assert sorted(ids_of(w.sink)) == sorted(ids_of(other)) == sorted(ids)

    run(main())


def test_one_that_goes_down_as_another_comes_up_is_not_tried_any_sooner() -> None:
    async def main() -> None:
        other = MemorySink()
        async with world(others={"other": other}) as w:
            await w.until(lambda: not w.outlets.down)
            other.trouble = SinkDownError("no connection")
            w.outlets["other"].fails("no connection")
            await asyncio.sleep(100)  # by now pauses are long
            polls = len(w.source.polls)
            w.outlets["other"].works()
            w.outlets["memory"].fails("no connection")
            await asyncio.sleep(1)
            assert len(w.source.polls) == polls

    run(main())


def test_an_answer_of_one_that_comes_late_is_remembered_for_it() -> None:
    async def main() -> None:
        answer = StillOut()
        other = MemorySink(answer)
        async with world(others={"other": other}, lease=10) as w:
            ids = w.source.publish("a")
            await w.until(lambda: w.facts.counts.received == 2, seconds=20)
            answer.answers[0].set_result(CONFIRMED)
            await w.until(lambda: w.acked == ids, seconds=5)
            assert (w.sink.sent, other.sent) == (ids, ids)

    run(main())


def test_what_one_refuses_is_buried_for_it_and_still_delivered_to_the_other() -> None:
    async def main() -> None:
        tries = 0

        def late(_: Event) -> Outcome:
            nonlocal tries
            tries += 1
            return CONFIRMED if tries > 3 else Again("503")

        other, letters = MemorySink(late), MemorySink()
        async with world(MemorySink(lambda _: Refused("too large")), others={"other": other}, dead_letters=letters) as w:
            ids = w.source.publish("a")
            await w.until(lambda: w.acked == ids, seconds=60)
            assert w.sink.sent == ids  # once
            assert [event.attributes["mqdeadsink"] for event in letters.confirmed] == ["memory"]
            assert ids_of(other) == ids

    run(main())
