"""The watcher: when it asks, what it makes of the answers, and what it publishes."""

import asyncio
import random
from typing import TypeVar

import pytest

from bridge.errors import BridgeError, BrokenAnswerError, FixSettingsError, ThrottledError, TryAgainError
from bridge.watch.consumer import Backlog, Connection, ConsumerStatus, Listed
from bridge.watch.facts import Facts, Status
from bridge.watch.management import FIRST_SECONDS, JITTER, RECENT_SECONDS, SLOWEST, ManagementWatch
from worlds.virtual_time import START, run

SOMEBODY = Listed(
    connections=(Connection(client_id="a", address="10.0.0.1", language="HTTP", version="1"),), number=1, model="CLUSTERING"
)
NOBODY = Listed()
BEHIND = Backlog(online=True, messages=5, delay_seconds=1.5)
NOT_ONLINE = Backlog(online=False, messages=5, delay_seconds=1.5)

A = TypeVar("A")


class Service:
    """A management API that answers as it is told."""

    def __init__(self, listed: Listed | BridgeError = SOMEBODY, behind: Backlog | BridgeError = BEHIND) -> None:
        self.listed = listed
        self.behind = behind
        self.asked_at: list[float] = []
        self.calls = 0
        self.closed = False

    async def connections(self) -> Listed:
        self.asked_at.append(asyncio.get_running_loop().time())
        self.calls += 1
        return _given(self.listed)

    async def backlog(self) -> Backlog:
        self.calls += 1
        return _given(self.behind)

    def close(self) -> None:
        self.closed = True


def _given(answer: A | BridgeError) -> A:
    if isinstance(answer, BridgeError):
        raise answer
    return answer


def watch_over(service: Service, *, seed: int = 7, interval: float = 60.0) -> tuple[ManagementWatch, Facts]:
    facts = Facts(["stdout"], wall_clock=asyncio.get_running_loop().time, monotonic=asyncio.get_running_loop().time)
    return ManagementWatch(service, facts, interval_seconds=interval, rng=random.Random(seed)), facts


def looked_at(service: Service, *, polls_ok: bool | None = True, poll_age: float = 0.0, paused: str | None = None) -> Facts:
    """The facts after one look; our own last poll ended so many seconds before, well or not, or none has (None)."""

    async def look() -> Facts:
        watch, facts = watch_over(service)
        if polls_ok is not None:
            facts.rocketmq.works()
        if polls_ok is False:
            facts.rocketmq.fails("polling: no route to host")
        facts.paused = paused
        await asyncio.sleep(poll_age)
        await watch.look()
        return facts

    return run(look())


def pauses(service: Service, *, count: int, seed: int = 7) -> list[float]:
    """The pauses between so many looks, the one before the first among them; in seconds."""

    async def watch_for_a_while() -> list[float]:
        watch, _ = watch_over(service, seed=seed)
        async with watch.watching():
            while len(service.asked_at) < count:  # noqa: ASYNC110 - time costs nothing here
                await asyncio.sleep(1.0)
        assert service.closed
        return [later - earlier for earlier, later in zip([START, *service.asked_at], service.asked_at, strict=False)]

    return run(watch_for_a_while())


def test_it_asks_at_the_interval_and_replicas_part_ways() -> None:
    one, other = pauses(Service(), count=50), pauses(Service(), count=50, seed=8)
    assert 0 <= one[0] <= FIRST_SECONDS
    assert all(60 * (1 - JITTER) <= pause <= 60 * (1 + JITTER) for pause in one[1:])
    assert max(one[1:]) - min(one[1:]) > 60 * JITTER
    assert one != other


def test_it_asks_ever_more_rarely_while_it_is_throttled_and_no_second_question() -> None:
    service = Service(ThrottledError("slow down"))
    found = pauses(service, count=8)[1:]
    for pause, intervals in zip(found, (2, 4, 8, 16, 16, 16, 16), strict=True):
        assert 60 * intervals * (1 - JITTER) <= pause <= 60 * intervals * (1 + JITTER)
    assert intervals == SLOWEST
    assert service.calls == len(service.asked_at)


def test_before_the_first_answer_it_is_unknown() -> None:
    async def begin() -> Facts:
        return watch_over(Service())[1]

    facts = run(begin())
    assert (facts.consumer.status, facts.consumer.checked_at) == (ConsumerStatus.UNKNOWN, None)
    assert Facts(["stdout"]).consumer.status is ConsumerStatus.DISABLED


def test_online_is_who_is_connected_and_how_far_behind() -> None:
    facts = looked_at(Service(), poll_age=30)
    consumer = facts.consumer
    assert (consumer.status, consumer.reason) == (ConsumerStatus.ONLINE, None)
    assert (consumer.listed, consumer.backlog, consumer.checked_at) == (SOMEBODY, BEHIND, START + 30)
    assert facts.management is not None
    assert facts.management.ok
    assert facts.management in facts.components


def test_a_group_that_is_said_to_be_online_is_online_though_nobody_is_listed() -> None:
    assert looked_at(Service(NOBODY, BEHIND)).consumer.status is ConsumerStatus.ONLINE


def test_nobody_listed_while_our_own_polls_succeed_is_not_listed() -> None:
    consumer = looked_at(Service(NOBODY, NOT_ONLINE)).consumer
    assert consumer.status is ConsumerStatus.NOT_LISTED
    assert "our own polls succeed" in (consumer.reason or "")


@pytest.mark.parametrize(
    ("polls_ok", "poll_age", "words"),
    [
        (False, 0.0, "polling: no route to host"),
        (None, 0.0, "none has finished yet"),
        (True, RECENT_SECONDS + 1, "121 s ago: the sink is down"),
    ],
)
def test_nobody_listed_while_our_own_polls_do_not_succeed_is_offline(
    polls_ok: bool | None,  # noqa: FBT001 - a parameter of a test
    poll_age: float,
    words: str,
) -> None:
    service = Service(NOBODY, NOT_ONLINE)
    facts = looked_at(service, polls_ok=polls_ok, poll_age=poll_age, paused="the sink is down" if poll_age else None)
    assert facts.consumer.status is ConsumerStatus.OFFLINE
    assert words in (facts.consumer.reason or "")
    assert facts.management is not None
    assert facts.management.ok  # asking went well


@pytest.mark.parametrize("polls_ok", [True, False])
@pytest.mark.parametrize("problem", [ThrottledError, FixSettingsError, TryAgainError, BrokenAnswerError])
def test_no_answer_is_unknown_with_the_reason_and_never_offline(problem: type[BridgeError], *, polls_ok: bool) -> None:
    facts = looked_at(Service(problem("this is why"), NOT_ONLINE), polls_ok=polls_ok)
    assert (facts.consumer.status, facts.consumer.reason) == (ConsumerStatus.UNKNOWN, "this is why")
    assert facts.consumer.listed is None
    assert facts.management is not None
    assert (facts.management.status, facts.management.last_error) == (Status.FAILING, "this is why")


def test_who_is_connected_is_known_though_the_backlog_is_not() -> None:
    facts = looked_at(Service(SOMEBODY, FixSettingsError("allow it")))
    assert (facts.consumer.status, facts.consumer.reason) == (ConsumerStatus.ONLINE, "allow it")
    assert (facts.consumer.listed, facts.consumer.backlog) == (SOMEBODY, None)
    assert facts.management is not None
    assert facts.management.status is Status.FAILING


def test_the_backlog_is_known_though_who_is_connected_is_not() -> None:
    consumer = looked_at(Service(FixSettingsError("allow it"), BEHIND)).consumer
    assert (consumer.status, consumer.backlog) == (ConsumerStatus.UNKNOWN, BEHIND)


def test_what_was_known_is_not_kept_when_it_is_unknown_now() -> None:
    async def look_twice() -> Facts:
        service = Service()
        watch, facts = watch_over(service)
        await watch.look()
        service.listed = service.behind = TryAgainError("gone")
        await watch.look()
        return facts

    consumer = run(look_twice()).consumer
    assert (consumer.listed, consumer.backlog, consumer.reason) == (None, None, "gone; gone")
