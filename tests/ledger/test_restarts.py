"""Promise 2 beyond one process: what somebody has confirmed and not acked, another acks without sending it again."""

import asyncio
from collections import Counter

import pytest

from bridge.delivery.engine import Rules
from bridge.errors import TryAgainError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, Refused
from bridge.testing import MemorySink
from ledger.replicas import Replica, a_broker, lossy, replica
from worlds.virtual_time import VirtualTimeLoop, run
from worlds.world import StillOut

Entries = dict[str, set[str]]


def refuse_all_acks(one: Replica) -> None:
    def refuse() -> None:
        raise TryAgainError("500")

    one.source.refuse_ack = refuse


@pytest.mark.parametrize("end", ["drained", "crashed"])
def test_what_was_confirmed_and_not_acked_is_acked_after_a_restart_without_being_sent(end: str) -> None:
    async def main() -> None:
        broker, entries = a_broker(), Entries()
        async with replica(broker, entries) as before:
            refuse_all_acks(before)
            ids = before.source.publish("a", "b")
            await before.until(lambda: len(before.source.acks) > 0)
            await asyncio.sleep(0.1)
            if end == "crashed":
                await before.crash()
        assert entries == {ids[0]: {"memory"}, ids[1]: {"memory"}}
        async with replica(broker, entries) as after:
            await after.until(lambda: after.acked == ids, seconds=60)
            assert (before.sink.sent, after.sink.sent) == (ids, [])
            assert after.facts.counts.remembered == 2
            assert after.facts.counts.ledger == {"lookups": 1, "hits": 2}
        assert not entries

    run(main())


def test_what_was_confirmed_when_the_process_ended_before_the_answer_to_its_ack_is_left_to_the_next_one() -> None:
    async def main() -> None:
        broker, entries = a_broker(), Entries()
        async with replica(broker, entries) as before:
            before.source.ack_seconds = 1e6
            ids = before.source.publish("a")
            await before.until(lambda: len(before.source.acks) > 0)
            assert not entries
            for _ in range(3):
                before.engine.interrupt()
        async with replica(broker, entries) as after:
            await after.until(lambda: after.acked == ids, seconds=60)
            assert not after.sink.sent

    run(main())


class AnswersAsItCloses(MemorySink):
    """Flushes what it was given, as the sinks for Kafka and webhooks do."""

    async def close(self) -> None:
        await asyncio.sleep(0.5)
        if isinstance(self.answer, StillOut):
            for answer in self.answer.answers:
                answer.set_result(CONFIRMED)
        self.hold.set()
        await super().close()


@pytest.mark.parametrize("out", ["its answer", "its send"])
def test_what_a_sink_confirms_while_it_closes_is_not_sent_again_by_the_next_process(out: str) -> None:
    async def main() -> None:
        broker, entries = a_broker(lease=300), Entries()
        sink = AnswersAsItCloses(StillOut() if out == "its answer" else lambda _: CONFIRMED)
        if out == "its send":
            sink.hold.clear()
        async with replica(broker, entries, sink) as before:
            ids = before.source.publish("a", "b")
            await before.until(lambda: before.sink.sent == ids)
            before.engine.drain()
            await before.running
        assert entries == {ids[0]: {"memory"}, ids[1]: {"memory"}}
        async with replica(broker, entries) as after:
            await after.until(lambda: sorted(after.acked) == sorted(ids), seconds=900)
            assert not after.sink.sent

    run(main())


def test_a_redelivery_that_goes_to_another_replica_is_acked_there() -> None:
    async def main() -> None:
        broker, entries = a_broker(), Entries()
        async with replica(broker, entries) as one:
            refuse_all_acks(one)
            ids = one.source.publish("a")
            await one.until(lambda: one.sink.sent == ids)
            one.engine.pollers.stop()  # while it goes on trying to ack
            async with replica(broker, entries) as other:
                await other.until(lambda: other.acked == ids, seconds=60)
                assert not other.sink.sent
                await other.until(lambda: not entries)

    run(main())


@pytest.mark.parametrize("shared", [True, False])
def test_of_thousands_of_messages_with_a_tenth_of_the_acks_failing_none_is_sent_twice_by_two_replicas(*, shared: bool) -> None:
    async def main() -> None:
        broker, entries = a_broker(lease=5), Entries()
        known = entries if shared else None
        async with replica(broker, known, seed=1) as one, replica(broker, known, seed=2) as other:
            lossy(one, share=0.05)
            lossy(other, share=0.05)
            ids: list[str] = []
            for number in range(250):
                ids += (one, other)[number % 2].source.publish(*"abcdefgh")
                await asyncio.sleep(0.05)
            await one.until(lambda: one.backlog == 0 and len(one.acked) == len(ids), seconds=300)
            times = Counter(one.sink.sent + other.sink.sent)
            assert times.keys() == set(ids)
            assert min(len(one.sink.sent), len(other.sink.sent)) > 200
            duplicates = times.total() - len(ids)
            assert duplicates == 0 if shared else duplicates > 5

    run(main())


def test_a_confirmation_that_comes_after_the_lease_counts_for_the_others_too() -> None:
    async def main() -> None:
        broker, entries, answer = a_broker(), Entries(), StillOut()
        async with replica(broker, entries, MemorySink(answer)) as one:
            ids = one.source.publish("a")
            await one.until(lambda: one.sink.sent == ids)
            one.engine.pollers.stop()
            await asyncio.sleep(30)
            answer.answers[0].set_result(CONFIRMED)
            await asyncio.sleep(1)
            assert entries == {ids[0]: {"memory"}}
            async with replica(broker, entries) as other:
                await other.until(lambda: other.acked == ids)
                assert not other.sink.sent

    run(main())


@pytest.mark.parametrize("kind", ["fails", "is still out"])
def test_of_several_sinks_only_those_that_have_not_confirmed_are_sent_the_event_by_the_next_process(kind: str) -> None:
    async def main() -> None:
        broker, entries = a_broker(), Entries()
        failing = MemorySink(lambda _: Again("500")) if kind == "fails" else MemorySink(StillOut())
        async with replica(broker, entries, others={"other": failing}) as before:
            ids = before.source.publish("a", "b")
            await before.until(lambda: len(entries) == 2)
            await before.crash()
        assert entries == {ids[0]: {"memory"}, ids[1]: {"memory"}}
        other = MemorySink()
        async with replica(broker, entries, others={"other": other}) as after:
            await after.until(lambda: after.acked == ids, seconds=60)
            assert (after.sink.sent, other.sent) == ([], ids)
        assert not entries

    run(main())


def test_a_sink_that_was_added_in_between_is_sent_what_it_has_not_confirmed() -> None:
    async def main() -> None:
        broker, entries, added = a_broker(), Entries(), MemorySink()
        async with replica(broker, entries) as before:
            refuse_all_acks(before)
            ids = before.source.publish("a")
            await before.until(lambda: len(entries) == 1)
        async with replica(broker, entries, others={"added": added}) as after:
            await after.until(lambda: after.acked == ids, seconds=60)
            assert (after.sink.sent, added.sent) == ([], ids)

    run(main())


def test_a_dead_letter_stands_for_the_sink_that_refused_and_is_not_written_again() -> None:
    async def main() -> None:
        def refuses(_: Event) -> Refused:
            return Refused("bad")

        broker, entries, letters, sink = a_broker(), Entries(), MemorySink(), MemorySink(refuses)
        async with replica(broker, entries, sink, dead_letters=letters) as before:
            refuse_all_acks(before)
            ids = before.source.publish("a")
            await before.until(lambda: len(entries) == 1)
        async with replica(broker, entries, sink, dead_letters=letters) as after:
            await after.until(lambda: after.acked == ids, seconds=60)
        assert (sink.sent, [letter.id for letter in letters.confirmed]) == (ids, ids)

    run(main())


def test_a_confirmation_so_late_that_its_ack_may_not_make_it_is_shared_before_the_answer_to_the_ack() -> None:
    async def main() -> None:
        entries, answer = Entries(), StillOut()
        async with replica(a_broker(lease=20), entries, MemorySink(answer)) as one:
            one.source.ack_seconds = 15
            ids = one.source.publish("a")
            await asyncio.sleep(19)  # the margin is 2 s
            answer.answers[0].set_result(CONFIRMED)
            await one.until(lambda: len(one.source.acks) > 0)
            await asyncio.sleep(0.1)
            assert entries == {ids[0]: {"memory"}}

    run(main())


def test_what_was_confirmed_while_the_process_stood_still_past_the_lease_is_shared() -> None:
    async def main() -> None:
        entries = Entries()

        def stand_still(_: Event) -> Outcome:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            loop.now += 30
            one.engine.pollers.stop()
            return CONFIRMED

        async with replica(a_broker(lease=20), entries, MemorySink(stand_still)) as one:
            ids = one.source.publish("a")
            await one.until(lambda: one.facts.counts.not_acked["expired"] == 1)
            await asyncio.sleep(0.1)
            assert entries == {ids[0]: {"memory"}}

    run(main())


def test_a_late_answer_to_an_event_that_found_no_room_is_shared() -> None:
    async def main() -> None:
        entries, answer = Entries(), StillOut()
        rules = Rules(wait_seconds=1, max_bytes=1 << 20)
        async with replica(a_broker(), entries, MemorySink(answer), rules=rules) as one:
            ids = one.source.publish(*(f"{number}" + "x" * 400_000 for number in range(4)))
            await one.until(lambda: len(one.sink.sent) == 4 and one.facts.counts.left["no room"] >= 3)
            one.engine.pollers.stop()
            await asyncio.sleep(30)
            for late in answer.answers:
                late.set_result(CONFIRMED)
            await one.until(lambda: entries.keys() == set(ids), seconds=5)

    run(main())


def test_an_ack_that_fails_again_and_again_is_written_once() -> None:
    async def main() -> None:
        async with replica(a_broker(lease=300), {}) as one:
            refuse_all_acks(one)
            one.source.publish("a", "b")
            await one.until(lambda: len(one.source.acks) == 50)
            assert one.store.calls["write"] == 1

    run(main())


def test_an_ack_that_is_accepted_while_its_entry_is_being_written_clears_it() -> None:
    async def main() -> None:
        entries = Entries()
        async with replica(a_broker(), entries) as one:
            await one.until(lambda: one.facts.ledger is not None and one.facts.ledger.ok)
            failing = iter([True])

            def refuse() -> None:
                if next(failing, False):
                    one.store.hold.clear()
                    raise TryAgainError("500")

            one.source.refuse_ack = refuse
            ids = one.source.publish("a")
            await one.until(lambda: one.acked == ids, seconds=1)
            assert one.store.calls["write"] == 1
            one.store.hold.set()
            await one.until(lambda: one.store.calls["write"] == 2, seconds=1)
            await asyncio.sleep(0.1)
            assert not entries

    run(main())


def test_an_ack_that_fails_once_is_written_at_once_and_its_entry_cleared_when_it_is_accepted() -> None:
    async def main() -> None:
        broker, entries = a_broker(), Entries()
        async with replica(broker, entries) as one:
            failing = iter([True])

            def refuse() -> None:
                if next(failing, False):
                    raise TryAgainError("500")

            one.source.refuse_ack = refuse
            ids = one.source.publish("a")
            await one.until(lambda: ids[0] in entries, seconds=5)
            assert not one.acked
            await one.until(lambda: one.acked == ids, seconds=5)
            await one.until(lambda: not entries, seconds=1)

    run(main())
