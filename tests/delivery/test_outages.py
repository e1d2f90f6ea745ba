"""Promises 3, 4 and 6: deadlines, outages, and what is only one event's trouble."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from bridge.delivery.engine import Rules
from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, Refused, Unknown
from bridge.source import Batch
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import StillOut, Unprobed, world


def poison(event: Event) -> Outcome:
    return Again("500") if str(event.body).startswith("poison") else CONFIRMED


def test_nothing_is_handed_to_the_sink_past_its_deadline() -> None:
    async def main() -> None:
        async with world(MemorySink(poison), lease=20) as w:
            handed_over: list[float] = []
            lease_ends = asyncio.get_running_loop().time() + 20
            send = w.sink.send

            async def recording(events, deadline):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
                handed_over.append(asyncio.get_running_loop().time())
                assert handed_over[-1] < deadline
                return await send(events, deadline)

            w.sink.send = recording  # type: ignore[method-assign]
            w.source.publish("poison")
            await w.until(lambda: w.facts.counts.left["not confirmed"] == 1, seconds=20)
            assert len(handed_over) > 3
            assert handed_over[-1] < lease_ends - 2  # a tenth of the lease

    run(main())


def test_one_event_that_fails_for_ever_is_parked_and_the_others_flow() -> None:
    async def main() -> None:
        async with world(MemorySink(poison)) as w:
            (bad,) = w.source.publish("poison")
            for number in range(100):
                w.source.publish(f"good {number}")
                await asyncio.sleep(1)
            assert len(w.acked) == 100
            assert not w.outlet.down
            tries = w.sink.sent.count(bad)
            assert 4 <= tries <= 10  # with pauses that grow

    run(main())


def test_a_twentieth_of_poison_does_not_stop_the_flow_nor_pass_for_an_outage() -> None:
    async def main() -> None:
        async with world(MemorySink(poison)) as w:
            for number in range(50):
                w.source.publish("poison", *(f"good {number}.{i}" for i in range(19)))
                await asyncio.sleep(0.1)
            await w.until(lambda: len(w.acked) == 950, seconds=2)
            assert not w.outlet.down

    run(main())


def test_a_refused_event_is_not_sent_again_within_its_lease_and_stops_nobody() -> None:
    async def main() -> None:
        async with world(MemorySink(lambda e: Refused("too large") if e.body == "bad" else CONFIRMED)) as w:
            (bad,) = w.source.publish("bad")
            good = w.source.publish("a", "b")
            await asyncio.sleep(299)
            assert w.acked == good
            assert w.sink.sent.count(bad) == 1
            await asyncio.sleep(10)
            assert w.sink.sent.count(bad) == 2  # the broker delivered it again
            assert w.facts.counts.left == {"refused": 2}

    run(main())


def test_several_new_events_in_a_row_without_a_confirmation_are_an_outage() -> None:
    async def main() -> None:
        async with world(MemorySink(lambda _: Again("500"))) as w:
            w.source.publish("1", "2", "3", "4")
            await asyncio.sleep(0.5)
            down_after_four = w.outlet.down
            w.source.publish("5")
            await asyncio.sleep(0.5)
            assert (down_after_four, w.outlet.down) == (False, True)
            assert w.facts.paused

    run(main())


@pytest.mark.parametrize("minutes", [1, 14, 50])
def test_an_outage_costs_a_message_at_most_one_delivery_but_for_lone_probes(minutes: int) -> None:
    """Nothing is polled while the sink is down, but for one message at a time when nothing that is held can try it."""

    async def main() -> None:
        async with world() as w:
            await w.until(lambda: not w.outlet.down)
            w.sink.trouble = SinkDownError("no connection")
            w.outlet.fails("no connection")
            w.source.publish(*(f"m{i}" for i in range(200)))
            polls = len(w.source.polls)
            await asyncio.sleep(minutes * 60)
            probes = len(w.source.polls) - polls
            assert probes <= 1  # the probe of this sink says that it is down, so no message is spent on it
            w.sink.trouble = None
            await w.until(lambda: len(w.acked) == 200, seconds=60)
            assert w.sink.probes > minutes

    run(main())


def test_a_poll_that_is_out_when_an_outage_begins_brings_nothing_that_was_held_then_a_second_time() -> None:
    """With a lease shorter than a poll, too: the poll ends before what is held comes again."""

    async def main() -> None:
        async with world(MemorySink(poison), lease=10) as w:
            (parked,) = w.source.publish("poison")
            await w.until(lambda: w.facts.beside == 1, seconds=1)
            await w.until(lambda: len(w.source.polls) == 2, seconds=1)
            w.sink.trouble = SinkDownError("no connection")  # which the parked event finds out
            await asyncio.sleep(300)
            assert w.facts.counts.received == 1
            w.sink.trouble, w.sink.answer = None, lambda _: CONFIRMED
            await w.until(lambda: w.acked == [parked], seconds=31)
            assert w.facts.counts.received == 2

    run(main())


def test_nor_does_it_bring_again_what_another_poll_that_was_out_has_brought() -> None:
    async def main() -> None:
        async with world(lease=10) as w:
            receive = w.source.receive

            async def late(max_messages: int, wait_seconds: int) -> Batch:
                """What brings the last message is a second on its way."""
                batch = await receive(max_messages, wait_seconds)
                if len(batch.deliveries) == 1:
                    await asyncio.sleep(1)
                return batch

            w.source.receive = late  # type: ignore[method-assign]
            w.source.publish(*(f"m{number}" for number in range(5)))
            await w.until(lambda: len(w.acked) == 4, seconds=0.5)
            w.sink.trouble = SinkDownError("no connection")
            await asyncio.sleep(300)
            assert w.facts.counts.received == 5
            w.sink.trouble = None
            await w.until(lambda: len(w.acked) == 5, seconds=31)
            assert w.facts.counts.received == 6

    run(main())


def always(outcome: Outcome) -> Callable[[], Callable[[Event], Outcome]]:
    return lambda: lambda _: outcome


OUTAGES: dict[str, tuple[type[MemorySink], Callable[[], Callable[[Event], Outcome]] | None]] = {
    "no connection, and it says so when probed": (MemorySink, None),
    "no connection, and a probe tells nothing": (Unprobed, None),
    "503 for every event": (Unprobed, always(Again("503"))),
    "every event refused": (Unprobed, always(Refused("400"))),
    "no answer before it is over": (Unprobed, StillOut),
}


@pytest.mark.parametrize("kind", OUTAGES)
def test_in_an_outage_of_ten_leases_no_message_is_delivered_more_than_twice_but_for_lone_probes_which_are_counted(
    kind: str,
) -> None:
    sink_class, make_answer = OUTAGES[kind]

    async def main() -> None:
        sink, answer = sink_class(), make_answer() if make_answer else None
        async with world(sink, rules=Rules(max_bytes=64 << 20)) as w:
            deliveries, probes = Counter[str](), Counter[str]()
            receive = w.source.receive

            async def counting(max_messages: int, wait_seconds: int) -> Batch:
                batch = await receive(max_messages, wait_seconds)
                ids = [delivery.event.id for delivery in batch.deliveries]
                deliveries.update(ids)
                if max_messages == 1:
                    probes.update(ids)
                return batch

            w.source.receive = counting  # type: ignore[method-assign]
            sink.hold.clear()
            ids = w.source.publish(*(f"m{number}" for number in range(500)))
            await w.until(lambda: w.facts.counts.received >= 8 * 16, seconds=5)
            assert w.facts.pollers == 8  # each with a batch in its hands
            if answer:
                sink.answer = answer
            else:
                sink.trouble = SinkDownError("no connection")
            sink.hold.set()
            await asyncio.sleep(10 * 300)
            assert not w.acked
            assert sum(probes.values()) == w.facts.counts.trials
            sink.trouble, sink.answer = None, lambda _: CONFIRMED
            for one in answer.answers if isinstance(answer, StillOut) else ():
                one.set_result(CONFIRMED)
            await w.until(lambda: not w.outlets.down, seconds=31)
            await w.until(lambda: w.backlog == 0, seconds=400)
            assert len(w.acked) == len(ids)
            assert max((deliveries - probes).values()) <= 2
            assert sum((deliveries - probes).values()) <= 500 + 8 * 16

    run(main())


def test_what_several_pollers_hold_when_an_outage_begins_is_delivered_when_it_ends_within_the_lease() -> None:
    async def main() -> None:
        async with world() as w:
            w.sink.hold.clear()
            ids = w.source.publish(*(f"m{number}" for number in range(400)))
            await w.until(lambda: w.facts.counts.received >= 4 + 7 * 16, seconds=5)  # each poller has a batch in its hands
            w.sink.trouble = SinkDownError("no connection")
            w.sink.hold.set()
            await asyncio.sleep(200)
            assert w.facts.beside == w.facts.counts.received  # all that is held waits for its turn
            w.sink.trouble = None
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=31)
            assert w.facts.counts.received == 400
            assert not w.facts.counts.trials

    run(main())


def test_without_a_probe_one_held_message_at_a_time_tries_the_sink_ever_more_rarely() -> None:
    async def main() -> None:
        async with world(Unprobed()) as w:
            await w.until(lambda: not w.outlet.down)
            w.sink.trouble = SinkDownError("no connection")
            w.source.publish(*(f"m{i}" for i in range(100)))
            await w.until(lambda: w.outlet.down, seconds=1)
            received = w.facts.counts.received
            before = len(w.sink.sends)
            await asyncio.sleep(240)
            assert w.facts.counts.received == received  # what is held tries; nothing new is polled
            tries = w.sink.sends[before:]
            assert all(len(events) == 1 for events in tries)
            assert 8 <= len(tries) <= 22
            w.sink.trouble = None
            await w.until(lambda: len(w.acked) == 100, seconds=400)

    run(main())


def test_the_outage_ends_within_one_ceiling_of_the_backoff_for_everybody() -> None:
    async def main() -> None:
        async with world(Unprobed()) as w:
            await w.until(lambda: not w.outlet.down)
            w.sink.trouble = SinkDownError("no connection")
            ids = w.source.publish(*(f"m{i}" for i in range(100)))
            await asyncio.sleep(100)
            w.sink.trouble = None
            await w.until(lambda: len(w.acked) == 100, seconds=31)
            assert w.facts.paused is None
            assert w.facts.counts.received == len(ids)  # each delivered once

    run(main())


def test_a_sink_that_is_down_at_the_start_is_opened_again_until_it_opens() -> None:
    async def main() -> None:
        sink = MemorySink()
        sink.trouble = SinkDownError("no connection")
        async with world(sink) as w:
            ids = w.source.publish("a")
            await asyncio.sleep(300)
            assert not w.source.polls
            sink.trouble = None
            await w.until(lambda: w.acked == ids, seconds=31)

    run(main())


def test_what_is_parked_is_bounded_and_the_rest_is_left() -> None:
    async def main() -> None:
        bodies = ["poison" + "x" * 400_000, *("good" for _ in range(19))]
        async with world(MemorySink(poison), rules=Rules(max_bytes=2 << 20)) as w:
            for _ in range(20):
                w.source.publish(*bodies)
                await w.until(lambda: w.facts.counts.received % 20 == 0, seconds=30)
            await w.until(lambda: len(w.acked) == 380, seconds=60)
            assert w.facts.counts.left["no room"] > 0
            assert w.room.held <= 2 << 20

    run(main())


def test_one_send_that_never_answers_does_not_keep_the_sink_down_for_ever() -> None:
    class Stuck(Unprobed):
        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            if not self.sends:
                self.sends.append([])
                await asyncio.Event().wait()
            return await super().send(events, deadline)

    async def main() -> None:
        async with world(Stuck()) as w:
            w.source.publish(*(f"m{number}" for number in range(30)))
            await w.until(lambda: len(w.acked) >= 24, seconds=900)

    run(main())


def test_an_event_behind_a_slow_ack_is_not_handed_over_past_its_deadline() -> None:
    async def main() -> None:
        answers: list[asyncio.Future[Outcome]] = []
        late: list[float] = []

        def answer(event: Event) -> Outcome:
            if event.body == "first":
                answers.append(asyncio.get_running_loop().create_future())
                return Unknown(answers[-1])  # type: ignore[arg-type]
            return CONFIRMED

        class Timed(MemorySink):
            async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
                if asyncio.get_running_loop().time() >= deadline:
                    late.append(deadline)
                return await super().send(events, deadline)

        async with world(Timed(answer), lease=60, rules=Rules(ordered=True)) as w:
            w.source.publish("first", "second")
            await asyncio.sleep(30)
            w.source.ack_seconds = 25
            answers[0].set_result(CONFIRMED)
            await asyncio.sleep(28)
            w.source.ack_seconds = 0.001
            await w.until(lambda: len(w.acked) == 2, seconds=200)
            assert not late

    run(main())


def test_what_is_parked_counts_at_once_so_that_a_whole_batch_does_not_pass_the_bound() -> None:
    async def main() -> None:
        async with world(MemorySink(lambda _: Again("500")), rules=Rules(max_bytes=2 << 20)) as w:
            w.source.publish(*("x" * 10 for _ in range(16)), *("x" * 500_000 for _ in range(16)))
            await asyncio.sleep(20)
            assert w.room.held <= 2 << 20

    run(main())
