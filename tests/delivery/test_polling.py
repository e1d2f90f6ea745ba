"""Promise 7 and `protocol.md 7`: how often the broker is called, and what each of its moods does to that."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.delivery.engine import Rules
from bridge.delivery.pace import Backoff
from bridge.delivery.room import Room
from bridge.errors import BrokenAnswerError, FixSettingsError, ThrottledError, TryAgainError
from worlds.virtual_time import run
from worlds.world import world


def test_an_idle_topic_costs_two_calls_a_minute() -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(86_400)
            assert 2880 <= len(w.source.polls) <= 2882
            assert not w.source.acks

    run(main())


def test_the_first_poll_does_not_wait_so_that_readiness_comes_at_once() -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(0.1)
            assert w.source.polls[0][2] == 0
            assert w.source.polls[1][2] == 30
            assert w.facts.rocketmq.ok

    run(main())


def test_pollers_grow_while_batches_are_full_and_shrink_to_one_again() -> None:
    async def main() -> None:
        async with world(rules=Rules(max_pollers=4)) as w:
            most = 0
            w.source.publish(*(f"m{i}" for i in range(3000)))
            while len(w.acked) < 3000:
                most = max(most, w.facts.pollers)
                await asyncio.sleep(0.0005)
            assert most == 4
            await asyncio.sleep(1)
            assert w.facts.pollers == 1
            polls = len(w.source.polls)
            assert polls < 3000 / 16 * 1.2 + 20
            await asyncio.sleep(600)
            assert len(w.source.polls) - polls <= 21

    run(main())


def test_a_backlog_costs_one_poll_and_one_ack_for_sixteen_messages() -> None:
    async def main() -> None:
        async with world() as w:
            w.source.publish(*(f"m{i}" for i in range(10_000)))
            await w.until(lambda: len(w.acked) == 10_000, seconds=60)
            assert len(w.source.acks) <= 10_000 / 16 + 2
            assert len(w.source.polls) + len(w.source.acks) <= 10_000 * 2 / 16 + 20

    run(main())


def test_a_broker_that_does_not_hold_polls_is_called_every_one_to_five_seconds() -> None:
    async def main() -> None:
        async with world() as w:
            w.source.holds_polls = False
            await asyncio.sleep(3600)
            assert 3600 / 5 <= len(w.source.polls) <= 3600 / 2.4
            assert w.facts.counts.polls["early"] > 700
            ids = w.source.publish("a")
            await w.until(lambda: w.acked == ids, seconds=5.1)

    run(main())


@pytest.mark.parametrize(
    "problem",
    [
        TryAgainError("502 with HTML"),
        TryAgainError("no connection", answer_lost=True),
        BrokenAnswerError("200 without a message"),
        ThrottledError("QpsLimitExceeded"),
        FixSettingsError("AccessDenied", code="AccessDenied"),
    ],
    ids=lambda problem: type(problem).__name__ + str(problem)[:3],
)
def test_trouble_is_met_with_growing_pauses_and_ends_by_itself(problem: Exception) -> None:
    def refuse() -> None:
        raise problem

    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(1)  # it has worked
            w.source.refuse_poll = refuse
            await asyncio.sleep(60)
            before = len(w.source.polls)
            assert before <= 15
            assert not w.facts.rocketmq.ok
            assert str(problem) in str(w.facts.rocketmq.last_error)
            await asyncio.sleep(600)
            assert len(w.source.polls) - before <= 41
            w.source.refuse_poll = lambda: None
            ids = w.source.publish("a")
            await w.until(lambda: w.acked == ids, seconds=31)
            assert w.facts.rocketmq.ok

    run(main())


def test_throttling_slows_all_pollers_together() -> None:
    def refuse() -> None:
        raise ThrottledError("QpsLimitExceeded")

    async def main() -> None:
        async with world() as w:
            w.source.publish(*(f"m{i}" for i in range(10_000)))
            await w.until(lambda: w.facts.pollers == 8, seconds=10)
            w.source.refuse_poll = refuse
            before = len(w.source.polls)
            await asyncio.sleep(60)
            assert len(w.source.polls) - before <= 8 + 15

    run(main())


def test_wrong_settings_end_a_process_that_has_never_succeeded() -> None:
    def refuse() -> None:
        raise FixSettingsError("InvalidAccessKeyId", code="InvalidAccessKeyId")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with world() as w:
                w.source.refuse_poll = refuse
                await asyncio.sleep(60)
        assert caught.group_contains(FixSettingsError)

    run(main())


def test_network_trouble_is_waited_out_even_before_the_first_success() -> None:
    def refuse() -> None:
        raise TryAgainError("no connection")

    async def main() -> None:
        async with world() as w:
            w.source.refuse_poll = refuse
            await asyncio.sleep(600)
            w.source.refuse_poll = lambda: None
            ids = w.source.publish("a")
            await w.until(lambda: w.acked == ids, seconds=31)

    run(main())


def test_large_messages_are_asked_for_in_smaller_numbers() -> None:
    async def main() -> None:
        async with world() as w:
            w.source.publish(*("x" * 3_000_000 for _ in range(40)))
            held = 0
            while len(w.acked) < 40:
                held = max(held, w.room.held)
                await asyncio.sleep(0.001)
            assert max(asked for _, asked, _ in w.source.polls) <= 5
            assert held <= 16 << 20
            w.source.publish(*("x" for _ in range(1000)))
            await w.until(lambda: len(w.acked) == 1040, seconds=60)
            assert max(asked for _, asked, _ in w.source.polls) == 16  # large ones are forgotten after a while

    run(main())


def test_one_legal_message_is_always_accepted_however_little_may_be_held() -> None:
    async def main() -> None:
        async with world(rules=Rules(max_bytes=65_536)) as w:
            ids = w.source.publish("x" * 4_000_000, "y" * 4_000_000)
            await w.until(lambda: w.acked == ids, seconds=60)

    run(main())


@given(sizes=st.lists(st.integers(0, 4 << 20), max_size=50), budget=st.integers(65_536, 64 << 20))
def test_the_room_is_never_overdrawn_by_what_it_expects(sizes: list[int], budget: int) -> None:
    async def main() -> None:
        room = Room(budget)
        for size in sizes:
            asked = room.fits(16)
            assert 1 <= asked <= 16
            assert asked == 1 or room.reckon(asked) <= budget
            room.take(room.reckon(asked))
            assert room.fits(16) == 0 or room.held <= budget
            room.take(-room.reckon(asked))
            room.learn(size)
            assert room.reckon(1) >= size
        assert room.held == 0

    asyncio.run(main())


@given(first=st.floats(0.01, 10), ceiling=st.floats(10, 100), asked=st.floats(0, 1000), seed=st.integers())
def test_pauses_grow_to_their_ceiling_unless_more_is_asked_for(first: float, ceiling: float, asked: float, seed: int) -> None:
    backoff = Backoff(first, ceiling, random.Random(seed))
    pauses = [backoff.pause() for _ in range(20)]
    assert all(first / 2 <= pause <= ceiling for pause in pauses)
    assert pauses[-1] >= ceiling / 2
    assert asked <= backoff.pause(asked) <= max(asked, ceiling)
    backoff.reset()
    assert backoff.pause() <= first


def test_polls_that_fail_together_count_as_one_failure() -> None:
    async def main() -> None:
        async with world() as w:
            w.source.publish(*(f"m{i}" for i in range(20_000)))
            await w.until(lambda: w.facts.pollers == 8, seconds=10)
            blip_ends = asyncio.get_running_loop().time() + 0.06

            def refuse() -> None:
                if asyncio.get_running_loop().time() < blip_ends:
                    raise TryAgainError("reset")

            w.source.refuse_poll = refuse
            await asyncio.sleep(0.06)
            acked = len(w.acked)
            await w.until(lambda: len(w.acked) > acked + 1000, seconds=2)

    run(main())


def test_a_broker_that_fails_every_second_poll_is_called_ever_more_rarely() -> None:
    async def main() -> None:
        async with world() as w:
            fail = iter([True, False] * 10_000)

            def refuse() -> None:
                if next(fail):
                    raise ThrottledError("QpsLimitExceeded")

            w.source.holds_polls = True
            await asyncio.sleep(1)
            w.source.refuse_poll = refuse
            for _ in range(300):
                w.source.publish("x")
                await asyncio.sleep(1)
            assert len(w.source.polls) < 100

    run(main())


def test_leases_that_are_over_on_arrival_are_trouble_with_the_clock_and_no_hot_loop() -> None:
    async def main() -> None:
        async with world() as w:
            await asyncio.sleep(1)
            w.source.clock_error = -400.0
            w.source.publish(*(f"m{i}" for i in range(200)))
            polls = len(w.source.polls)
            await asyncio.sleep(60)
            assert len(w.source.polls) - polls < 15
            assert not w.facts.rocketmq.ok
            assert "clock" in str(w.facts.rocketmq.last_error)
            assert not w.sink.sent

    run(main())
