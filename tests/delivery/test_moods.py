"""The broker's moods: polls that it doesn't hold, calls that it finds too many, a clock that is not ours."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import structlog
from structlog.testing import LogCapture

from bridge.delivery import long_polls
from bridge.delivery.lease import BrokerClock
from bridge.delivery.pace import Pace
from bridge.errors import ThrottledError, TryAgainError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome
from bridge.source import Batch
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import EPOCH, World, world


def test_polls_that_are_not_held_are_reported_in_words_and_with_one_line_when_that_begins_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = LogCapture()
    monkeypatch.setattr(long_polls, "log", structlog.wrap_logger(None, processors=[lines]))

    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(100)
            assert w.facts.short_polls is None
            w.source.holds_polls = False
            await asyncio.sleep(60)
            assert "0.0 s instead of 30 s" in str(w.facts.short_polls)
            for _ in range(100):  # what comes at once tells nothing
                w.source.publish("a")
                await asyncio.sleep(5)
            assert [line["event"] for line in lines.entries] == ["polls are not held"]
            w.source.holds_polls = True
            await asyncio.sleep(40)
            assert w.facts.short_polls is None
            assert [line["event"] for line in lines.entries] == ["polls are not held", "polls are held again"]

    run(main())


def test_a_poll_now_and_then_that_is_not_held_is_no_mood() -> None:
    async def main() -> None:
        async with world() as w:
            for _ in range(50):
                await asyncio.sleep(100)
                w.source.holds_polls = False
                await w.until(lambda: w.facts.counts.polls["early"] % 2 == 1, seconds=60)
                w.source.holds_polls = True
                assert w.facts.short_polls is None

    run(main())


def test_while_polls_are_not_held_one_poller_does_the_work_and_the_backlog_that_lasts_gets_more_again() -> None:
    class Slow(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            await asyncio.sleep(0.1)
            return await super().send(events, deadline)

    async def main() -> None:
        async with world(Slow()) as w:
            w.source.holds_polls = False
            await w.until(lambda: w.facts.short_polls is not None, seconds=60)
            w.source.publish(*(f"m{number}" for number in range(15_000)))
            await asyncio.sleep(30)
            assert len(w.acked) > 3000
            assert w.facts.pollers == 1
            await w.until(lambda: w.facts.pollers == 8, seconds=60)

    run(main())


@pytest.mark.parametrize("waited", [0.0, 0.9, 1.0, 20.0])
def test_a_poll_that_brought_messages_was_held_when_that_took_a_second(waited: float) -> None:
    async def main() -> None:
        async with world() as w:
            w.source.holds_polls = False
            await w.until(lambda: w.facts.short_polls is not None, seconds=60)
            receive = w.source.receive

            async def receive_late(max_messages: int, wait_seconds: int) -> Batch:
                return replace(await receive(max_messages, wait_seconds), waited=waited)

            w.source.receive = receive_late  # type: ignore[method-assign]
            ids = w.source.publish("a")
            await w.until(lambda: w.acked == ids, seconds=10)
            assert (w.facts.short_polls is None) == (waited >= 1)

    run(main())


def test_throttled_polls_slow_the_whole_process_and_all_of_it_recovers() -> None:
    def refuse() -> None:
        raise ThrottledError("QpsLimitExceeded")

    async def main() -> None:
        async with world() as w:
            w.source.publish(*(f"m{number}" for number in range(3000)))
            await w.until(lambda: w.facts.pollers == 8, seconds=10)
            w.source.refuse_poll = refuse
            await asyncio.sleep(1)
            calls = len(w.source.polls) + len(w.source.acks)
            await asyncio.sleep(600)
            assert 20 <= len(w.source.polls) + len(w.source.acks) - calls <= 600 / 15 + 5
            assert w.facts.pollers == 1
            w.source.refuse_poll = lambda: None
            await w.until(lambda: len(w.acked) == 3000, seconds=60)

    run(main())


def test_an_ack_that_is_throttled_pauses_the_polls_even_of_a_broker_that_does_not_hold_them() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        pace = Pace(now, random.Random(1))
        pace.note_nothing_at_once()
        pace.note_ack_trouble(ThrottledError("QpsLimitExceeded"))
        assert pace.resume_at - now() > 2
        assert pace.throttled_until == pace.resume_at
        pace.note_ack_trouble(TryAgainError("500"))
        assert pace.throttled_until == pace.resume_at

    run(main())


class Clocked:
    """Gives a world's source the Date arithmetic of the real one, and a broker whose clock `ahead` sets, in seconds."""

    def __init__(self, w: World) -> None:
        self.ahead = 0.0
        self.errors: list[float] = []
        """By how much later than it is the end of each lease was believed to be, in seconds."""
        self._clock = BrokerClock()
        self._receive = w.source.receive
        w.source.now = self._now  # type: ignore[method-assign]
        w.source.receive = self.receive  # type: ignore[method-assign]

    def _now(self) -> int:
        return round((EPOCH + asyncio.get_running_loop().time() + self.ahead) * 1000)

    async def receive(self, max_messages: int, wait_seconds: int) -> Batch:
        now = asyncio.get_running_loop().time
        sent_at = now()
        batch = await self._receive(max_messages, wait_seconds)
        self._clock.observe(self._now() // 1000, sent_at, now())  # a Date header shows no fraction
        deliveries = []
        for delivery in batch.deliveries:
            believed = self._clock.local(delivery.expires_at + EPOCH, otherwise=EPOCH)
            self.errors.append(believed - (delivery.expires_at - self.ahead))
            deliveries.append(replace(delivery, expires_at=believed))
        return replace(batch, deliveries=deliveries)


@pytest.mark.parametrize(("ahead", "then"), [(0, 900), (900, 0), (-900, 900), (900, 899), (30, -30)])
def test_a_broker_clock_that_is_off_and_jumps_while_running_costs_no_message_no_duplicate_and_no_lease(
    ahead: float, then: float
) -> None:
    failing = True

    def answer(event: Event) -> Outcome:
        return Again("503") if failing and str(event.body).startswith("slow") else CONFIRMED

    async def main() -> None:
        nonlocal failing
        async with world(MemorySink(answer), lease=60) as w:
            clocked = Clocked(w)
            clocked.ahead = ahead
            ids: list[str] = []
            for number in range(60):
                if number == 30:
                    clocked.ahead = then
                ids += w.source.publish(f"slow {number}", f"fast {number}.0", f"fast {number}.1")
                await asyncio.sleep(2)
            failing = False
            await asyncio.sleep(1000)  # after a jump back the broker's leases last longer
            assert sorted(w.acked) == sorted(ids)
            assert sorted(event.id for event in w.sink.confirmed) == sorted(ids)
            assert max(clocked.errors) < 1.1  # well within the margin
            assert min(clocked.errors[-20:]) > -3.1  # a poll of 2 s, and the second that a Date has
            assert w.facts.rocketmq.ok

    run(main())
