"""Promise 8: shutdown is arithmetic, not hope."""

import asyncio

import pytest

from bridge.delivery.engine import Rules
from bridge.errors import SinkDownError, TryAgainError
from bridge.sinks import CONFIRMED, Again
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import StillOut, World, world


async def end_of(w: World) -> float:
    """Wait for the engine's end; tells how many seconds that took."""
    now = asyncio.get_running_loop().time
    begun = now()
    await asyncio.wait([w.running], timeout=1000)
    assert w.running.done()
    assert w.sink.closed
    return now() - begun


def test_the_poll_that_is_out_comes_back_and_what_it_brings_is_delivered_and_acked() -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(5)
            w.engine.drain()
            await asyncio.sleep(3)
            ids = w.source.publish("late")
            assert await end_of(w) < 0.1
            assert w.acked == ids
            assert not w.facts.polls_cut

    run(main())


def test_an_idle_bridge_drains_when_its_long_poll_is_over() -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(5)
            polls = len(w.source.polls)
            w.engine.drain()
            assert 20 < await end_of(w) <= 30
            assert len(w.source.polls) == polls

    run(main())


@pytest.mark.parametrize("twice", [False, True])
def test_an_interrupt_or_a_second_drain_cuts_the_poll_and_counts_it(*, twice: bool) -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(5)
            if twice:
                w.engine.drain()
                w.engine.drain()
            else:
                w.engine.interrupt()
            assert await end_of(w) < 0.1
            assert w.facts.counts.polls["cut"] == w.facts.polls_cut == 1

    run(main())


def test_nobody_waits_for_a_retry() -> None:
    async def main() -> None:
        async with world(MemorySink(lambda _: Again("500"))) as w:
            w.source.publish("a", "b")
            await asyncio.sleep(40)  # the pauses have grown
            w.engine.interrupt()
            assert await end_of(w) < 0.1
            assert w.facts.counts.left == {"shutdown": 2}

    run(main())


def test_an_answer_that_is_still_out_is_waited_for_and_acked() -> None:
    async def main() -> None:
        answer = StillOut()
        async with world(MemorySink(answer)) as w:
            ids = w.source.publish("a")
            await asyncio.sleep(1)
            w.engine.interrupt()
            asyncio.get_running_loop().call_later(5, answer.answers[0].set_result, CONFIRMED)
            assert 5 <= await end_of(w) < 5.1
            assert w.acked == ids

    run(main())


@pytest.mark.parametrize("grace", [4.0, 45.0])
def test_when_the_grace_is_over_what_is_held_is_left_and_counted(grace: float) -> None:
    async def main() -> None:
        async with world(rules=Rules(grace_seconds=grace)) as w:
            w.sink.hold.clear()
            w.source.publish("a", "b", "c")
            await asyncio.sleep(1)
            w.engine.drain()
            assert await end_of(w) <= grace
            assert w.facts.counts.left == {"shutdown": 3}
            assert not w.source.acks

    run(main())


def test_a_third_signal_leaves_everything_at_once() -> None:
    async def main() -> None:
        async with world() as w:
            w.sink.hold.clear()
            w.source.publish("a", "b", "c")
            await asyncio.sleep(1)
            for _ in range(3):
                w.engine.drain()
            assert await end_of(w) < 0.1
            assert w.facts.counts.left == {"shutdown": 3}

    run(main())


def test_under_full_load_everything_that_is_held_is_acked_and_nothing_left() -> None:
    async def main() -> None:
        async with world() as w:
            w.source.publish(*(f"m{number}" for number in range(10_000)))
            await w.until(lambda: w.facts.pollers == 8, seconds=10)
            w.engine.drain()
            assert await end_of(w) < 1
            assert 0 < len(w.acked) == w.facts.counts.received < 10_000
            assert not w.facts.counts.left

    run(main())


def test_during_an_outage_what_is_parked_is_left_at_once() -> None:
    async def main() -> None:
        async with world() as w:
            await w.until(lambda: not w.outlet.down)
            w.sink.trouble = SinkDownError("no connection")
            w.source.publish("a", "b")
            await asyncio.sleep(20)
            w.engine.drain()
            assert await end_of(w) < 0.1
            assert w.facts.counts.left == {"shutdown": 2}

    run(main())


def test_nobody_waits_for_a_dead_letter_sink_that_never_opens() -> None:
    class NeverOpen(MemorySink):
        async def open(self) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        async with world(dead_letters=NeverOpen()) as w:
            ids = w.source.publish("a")
            await asyncio.sleep(1)
            w.engine.interrupt()
            assert await end_of(w) < 0.1
            assert w.acked == ids

    run(main())


def test_with_the_broker_gone_an_idle_bridge_ends_at_once() -> None:
    async def main() -> None:
        async with world() as w:

            def refuse() -> None:
                raise TryAgainError("no connection")

            await asyncio.sleep(1)
            w.source.refuse_poll = refuse
            await asyncio.sleep(100)
            w.engine.drain()
            assert await end_of(w) < 0.1

    run(main())
