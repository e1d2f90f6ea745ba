"""Promise 8: shutdown is arithmetic, not hope."""

import asyncio

from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, Unknown
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import world


def test_the_poll_that_is_out_comes_back_and_what_it_brings_is_delivered_and_acked() -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(5)
            w.pollers.stop()
            await asyncio.sleep(3)
            ids = w.source.publish("late")
            await asyncio.wait([w.polling], timeout=1)
            assert w.polling.done()
            assert w.acked == ids

    run(main())


def test_a_poll_that_is_cut_is_counted() -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(5)
            w.pollers.stop()
            w.pollers.cut()
            await asyncio.wait([w.polling], timeout=0.1)
            assert w.polling.done()
            assert w.facts.counts.polls["cut"] == 1

    run(main())


def test_nobody_waits_for_a_retry() -> None:
    async def main() -> None:
        async with world(MemorySink(lambda _: Again("500"))) as w:
            w.source.publish("a", "b")
            await asyncio.sleep(40)  # the pauses have grown
            begun = asyncio.get_running_loop().time()
            w.pollers.stop()
            w.pollers.cut()
            w.pipeline.stop_retrying()
            await w.pipeline.finish(60, asyncio.Event())
            assert asyncio.get_running_loop().time() - begun < 1
            assert w.facts.counts.left == {"shutdown": 2}

    run(main())


def test_an_answer_that_is_still_out_is_waited_for_and_acked() -> None:
    async def main() -> None:
        answers: list[asyncio.Future[Outcome]] = []

        def answer(_: Event) -> Outcome:
            answers.append(asyncio.get_running_loop().create_future())
            return Unknown(answers[-1])  # type: ignore[arg-type]

        async with world(MemorySink(answer)) as w:
            ids = w.source.publish("a")
            await asyncio.sleep(1)
            w.pollers.stop()
            w.pollers.cut()
            w.pipeline.stop_retrying()
            asyncio.get_running_loop().call_later(5, lambda: answers[0].set_result(CONFIRMED))
            await w.pipeline.finish(60, asyncio.Event())
            assert w.acked == ids

    run(main())


def test_when_the_grace_is_over_what_is_held_is_left_and_counted() -> None:
    async def main() -> None:
        async with world() as w:
            w.sink.hold.clear()
            w.source.publish("a", "b", "c")
            await asyncio.sleep(1)
            w.pollers.stop()
            w.polling.cancel()
            w.pollers.abandon()
            await asyncio.sleep(0)
            assert w.facts.counts.left == {"shutdown": 3}
            assert not w.source.acks
            w.sink.hold.set()

    run(main())
