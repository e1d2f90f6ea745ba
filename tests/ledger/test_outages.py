"""Promise 9: a store that is slow, or gone, is reported, and changes no delivery."""

import asyncio

import pytest

from bridge.delivery import shared_ledger
from bridge.delivery.engine import Rules
from bridge.errors import TryAgainError
from bridge.testing import MemorySink
from bridge.watch.facts import Status
from bridge.watch.health import not_ready, report
from ledger.replicas import GONE, Replica, a_broker, replica
from worlds.virtual_time import run
from worlds.world import StillOut


def refuse_acks(one: Replica, *, until: float) -> None:
    """All of them, until an instant of the loop's clock."""

    def refuse() -> None:
        if asyncio.get_running_loop().time() < until:
            raise TryAgainError("500")

    one.source.refuse_ack = refuse


def test_when_nothing_goes_wrong_the_store_is_only_greeted() -> None:
    async def main() -> None:
        async with replica(a_broker(), {}) as one:
            for _ in range(100):
                one.source.publish(*"abcd")
                await asyncio.sleep(7)
            assert len(one.acked) == 400
            assert one.store.calls == {"check": 1}
            assert one.facts.ledger
            assert one.facts.ledger.ok

    run(main())


def test_a_redelivery_is_asked_about_once_and_together_with_those_of_its_poll() -> None:
    async def main() -> None:
        async with replica(a_broker(), {}, MemorySink(StillOut())) as one:
            one.source.publish(*"abcd")
            await one.until(lambda: one.facts.counts.received == 8, seconds=60)
            assert one.store.calls == {"check": 1, "read": 1}
            assert one.facts.counts.ledger == {"lookups": 1, "hits": 0}

    run(main())


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_a_store_that_is_gone_holds_redeliveries_up_once_for_half_a_second_and_is_reported(kind: str) -> None:
    async def main() -> None:
        async with replica(a_broker(), {}) as one:
            loop = asyncio.get_running_loop()
            await one.until(lambda: one.facts.ledger is not None and one.facts.ledger.ok)
            one.sink.hold.clear()  # five are left for redelivery, at different times
            for _ in range(5):
                one.source.publish("a")
                await asyncio.sleep(2)
            one.engine.pollers.stop()
            await asyncio.sleep(60)
            if kind == "refuses":
                one.store.trouble = GONE
            else:
                one.store.hold.clear()
            async with replica(one.source.broker, {}, store=one.store) as other:
                begun = loop.time()
                ids = other.source.publish("new")
                await other.until(lambda: ids[0] in other.acked)
                assert loop.time() - begun < 0.6
                await other.until(lambda: other.backlog == 0)
                assert loop.time() - begun < 0.6
                assert not_ready(other.facts) is None
                assert other.facts.ledger
                assert other.facts.ledger.status is Status.FAILING
                assert "BRIDGE_LEDGER__REDIS_URL" in (other.facts.ledger.last_error or "")
                assert report(other.facts)["status"] == "failing"
                assert other.facts.counts.ledger["failures"] > 0
                one.store.trouble = None
                one.store.hold.set()
                await other.until(lambda: other.facts.ledger is not None and other.facts.ledger.ok, seconds=20)
            one.sink.hold.set()

    run(main())


def test_while_it_is_known_to_be_gone_nobody_waits_for_it_and_it_is_tried_ever_more_rarely() -> None:
    async def main() -> None:
        async with replica(a_broker(lease=10), {}, MemorySink(StillOut())) as one:
            one.store.hold.clear()
            one.source.publish("a")
            await one.until(lambda: one.facts.counts.received == 60, seconds=900)
            assert one.facts.counts.ledger["skipped"] >= 57
            assert 30 < one.store.calls["check"] < 60  # each takes 5 s, and the pauses between them up to 10 s
            one.store.hold.set()
            assert one.facts.ledger
            await one.until(lambda: one.facts.ledger is not None and one.facts.ledger.ok, seconds=15)
            one.store.trouble = GONE
            await one.until(lambda: one.facts.ledger is not None and not one.facts.ledger.ok, seconds=15)
            one.store.trouble = None
            await one.until(lambda: one.facts.ledger is not None and one.facts.ledger.ok, seconds=1)

    run(main())


def test_what_could_not_be_written_is_written_when_the_store_is_back() -> None:
    async def main() -> None:
        entries: dict[str, set[str]] = {}
        async with replica(a_broker(), entries) as one:
            one.store.trouble = GONE
            refuse_acks(one, until=asyncio.get_running_loop().time() + 100)
            ids = one.source.publish("a", "b")
            await asyncio.sleep(15)
            assert not entries
            one.store.trouble = None
            await one.until(lambda: set(entries) == set(ids), seconds=11)
            await one.until(lambda: not entries, seconds=120)  # acked
            assert one.sink.sent == ids

    run(main())


def test_what_is_acked_before_it_could_be_written_is_not_written() -> None:
    async def main() -> None:
        async with replica(a_broker(), {}) as one:
            await one.until(lambda: one.store.calls["check"] == 1)
            one.store.hold.clear()
            await one.engine.ledger.recall(["x"], seconds=1)  # finds out that it hangs
            refuse_acks(one, until=asyncio.get_running_loop().time() + 1)
            ids = one.source.publish("a")
            await one.until(lambda: one.acked == ids, seconds=5)
            one.store.hold.set()
            await asyncio.sleep(30)
            assert one.store.calls["write"] == 0

    run(main())


def test_a_store_that_came_back_empty_is_told_again_what_is_still_in_doubt() -> None:
    async def main() -> None:
        entries: dict[str, set[str]] = {}
        async with replica(a_broker(lease=100), entries) as one:
            refuse_acks(one, until=asyncio.get_running_loop().time() + 90)
            (message_id,) = one.source.publish("a")
            await one.until(lambda: message_id in entries)
            one.store.trouble = GONE
            await one.engine.ledger.recall(["x"], seconds=1)
            entries.clear()
            one.store.trouble = None
            await one.until(lambda: message_id in entries, seconds=30)

    run(main())


def test_what_waits_and_what_is_known_is_bounded_however_long_the_store_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_ledger, "MAX_WAITING", 100)
    monkeypatch.setattr(shared_ledger, "MAX_WRITTEN", 150)

    async def main() -> None:
        entries: dict[str, set[str]] = {}
        async with replica(a_broker(lease=5), entries) as one:
            shared = one.engine.ledger._shared
            assert shared
            one.source.broker.ack = lambda *_, **__: []  # type: ignore[method-assign]  # acks settle nothing
            lost = TryAgainError("cut", answer_lost=True)
            one.source.lose_ack_answer = lambda: lost
            for trouble in (GONE, None):
                one.store.trouble = trouble
                for _ in range(50):
                    one.source.publish(*"abcdefgh")
                    await asyncio.sleep(3)
                    assert len(shared._waiting) <= 100
                    assert len(shared._written) <= 150
                    assert trouble is None or not entries
            assert one.facts.counts.ledger["dropped"] > 200
            await one.until(lambda: not shared._waiting)
            assert len(entries) > 100

    run(main())


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_a_store_that_is_gone_does_not_hold_up_the_shutdown(kind: str) -> None:
    class Clinging(MemorySink):
        async def close(self) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        async with replica(a_broker(), {}, Clinging(), rules=Rules(grace_seconds=10)) as one:
            refuse_acks(one, until=asyncio.get_running_loop().time() + 1000)
            await one.until(lambda: one.facts.ledger is not None and one.facts.ledger.ok)
            if kind == "refuses":
                one.store.trouble = GONE
            else:
                one.store.hold.clear()
            one.source.publish("a")
            await one.until(lambda: len(one.source.acks) > 0)
            one.engine.drain()
            begun = asyncio.get_running_loop().time()
            await asyncio.wait([one.running])
            assert asyncio.get_running_loop().time() - begun < 10.1
            assert one.running.exception() is None

    run(main())


def test_entries_that_could_not_be_written_before_the_end_are_counted() -> None:
    async def main() -> None:
        async with replica(a_broker(), {}) as one:
            one.store.trouble = GONE
            refuse_acks(one, until=asyncio.get_running_loop().time() + 1000)
            one.source.publish("a", "b", "c")
            await one.until(lambda: len(one.source.acks) > 0)
        assert one.facts.counts.ledger["dropped"] == 3

    run(main())


def test_a_redelivery_that_is_asked_about_when_the_time_is_up_is_counted_as_left() -> None:
    async def main() -> None:
        async with replica(a_broker(lease=5), {}, MemorySink(StillOut())) as one:
            one.source.publish("a")
            await one.until(lambda: one.facts.counts.received == 1)
            one.store.hold.clear()
            await one.until(lambda: one.store.calls["read"] == 1)
            for _ in range(3):
                one.engine.interrupt()
            await asyncio.wait([one.running])
            assert one.facts.counts.left["shutdown"] == 2  # that one, and its first delivery, whose answer is out

    run(main())
