"""What the client makes of dates: the broker's clock, and our own when it is wrong (protocol.md 1.5)."""

import time
from email.utils import formatdate

import pytest

from bridge.delivery.lease import BrokerClock
from bridge.emulator.server import Emulator
from bridge.errors import BrokenAnswerError, FixSettingsError
from bridge.rocketmq.client import Client
from rocketmq.calls import CALLS, SUBSCRIPTION, Call, failure_of, poll
from rocketmq.documents import error
from rocketmq.servers import CREDENTIALS, answering, client_of, http


async def test_the_date_of_every_answer_is_told_with_the_instants_of_its_call() -> None:
    told: list[tuple[float, float, float]] = []
    ticks = iter(range(100, 200))
    async with (
        Emulator(clock=lambda: 1_800_000_000.9) as emulator,
        Client(
            emulator.url,
            lambda: CREDENTIALS,
            max_connections=1,
            wall_clock=lambda: 1_800_000_000.0,
            monotonic=lambda: float(next(ticks)),
            on_date=lambda date, sent, received: told.append((date, sent, received)),
        ) as client,
    ):
        polled = await client.poll(SUBSCRIPTION, max_messages=1, wait_seconds=0)
        await failure_of(client.publish("CID", body="a"))  # an error has a date too

    assert told == [(1_800_000_000.0, 100.0, 101.0), (1_800_000_000.0, 102.0, 103.0)]
    assert (polled.sent_at, polled.received_at) == (100.0, 101.0)


async def test_the_brokers_clock_is_learnt_from_the_answers(emulator: Emulator) -> None:
    clock = BrokerClock()
    emulator.faults.clock_offset_seconds = 100
    async with Client(emulator.url, lambda: CREDENTIALS, max_connections=1, on_date=clock.observe) as client:
        await poll(client)

        difference = time.time() + 100 - time.monotonic()

    assert -2 < clock.local(0.0, otherwise=0.0) + difference <= 0.01


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Date: Sat, 21 Nov 2026 19:22:54 GMT", [1795288974.0]),
        ("Date: Sat, 21 Nov 2026 19:22:54 -0000", [1795288974.0]),
        ("Date: Sat, 21 Nov 2026 19:22:54", [1795288974.0]),
        ("Date: yesterday", []),
        ("Date: Sat, 99 Nov 2026 19:22:54 GMT", []),
        ("X: y", []),
    ],
)
async def test_a_date_is_in_utc_and_none_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, zone: str, header: str, told: list[float]
) -> None:
    dates: list[float] = []
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        async with (
            answering(http(404, error("MessageNotExist"), header)) as server,
            Client(server.url, lambda: CREDENTIALS, max_connections=1, on_date=lambda date, *_: dates.append(date)) as client,
        ):
            assert await poll(client) == []
    finally:
        monkeypatch.undo()
        time.tzset()

    assert dates == told


@CALLS
@pytest.mark.parametrize(("off", "words"), [(-1200, "1,200 s behind"), (1200, "1,200 s ahead of")])
async def test_a_clock_that_is_wrong_is_tried_twice_and_then_named_with_the_difference(
    call: Call, off: float, words: str
) -> None:
    dates: list[float] = []
    now = 1_800_000_000.0
    async with (
        Emulator(clock=lambda: now) as emulator,
        Client(
            emulator.url,
            lambda: CREDENTIALS,
            max_connections=1,
            wall_clock=lambda: now + off,
            on_date=lambda date, *_: dates.append(date),
        ) as client,
    ):
        problem = await failure_of(call(client))

    assert isinstance(problem, FixSettingsError)
    assert problem.code == "TimeExpired"
    assert words in str(problem)
    assert len(dates) == 2


async def test_a_date_that_was_too_old_once_is_sent_afresh(emulator: Emulator) -> None:
    instants = iter([time.time() - 1200, time.time()])
    async with Client(emulator.url, lambda: CREDENTIALS, max_connections=1, wall_clock=lambda: next(instants)) as client:
        assert await poll(client) == []


async def test_a_timeout_of_a_load_balancer_is_no_matter_of_clocks() -> None:
    expired, timeout = http(408, error("TimeExpired"), f"Date: {formatdate(0)}"), http(408, b"<html>", f"Date: {formatdate(0)}")

    for answers, count in ([timeout], 1), ([expired, timeout], 2):
        async with answering(*answers) as server, client_of(server.url) as client:
            assert type(await failure_of(poll(client))) is BrokenAnswerError
        assert len(server.requests) == count
