"""Whole bridges that share their ledger in a real Redis, on a clock that costs time."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acceptance.processes import GROUP, PATIENCE_SECONDS, TOPIC, bridge, environment, events, get, until
from bridge.delivery import shared_ledger
from bridge.delivery.engine import Rules
from bridge.delivery.redis_store import RedisStore
from bridge.emulator.server import Emulator
from bridge.testing import MemorySink
from bridge.watch.health import not_ready
from ledger.replicas import a_broker, lossy, replica
from ledger.server import RedisServer
from worlds.world import StillOut


@contextmanager
def _gone(redis: RedisServer, kind: str) -> Iterator[None]:
    """Refusing connections, or taking them and answering nothing."""
    if kind == "killed":
        redis.kill()
    else:
        redis.freeze()
    try:
        yield
    finally:
        if kind == "killed":
            redis.start()
        else:
            redis.thaw()


async def test_while_nothing_goes_wrong_redis_is_given_no_command(redis: RedisServer) -> None:
    store = RedisStore(redis.url, instance=None, topic=TOPIC, group=GROUP)
    async with replica(a_broker(), None, store=store) as one:
        await until(lambda: one.facts.ledger and one.facts.ledger.ok)
        for _ in range(10):
            one.source.publish(*"abcdefghijklmnop")
            await until(lambda: one.backlog == 0)
        await asyncio.sleep(0.3)  # idle
    assert len(one.acked) == 160
    assert redis.commands() == {}


@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_a_redis_that_goes_away_in_the_middle_holds_nobody_up_is_reported_and_used_again(
    redis: RedisServer, kind: str
) -> None:
    sink, answer = MemorySink(), StillOut(about=lambda event: event.body == "slow")
    sink.answer = answer
    store = RedisStore(redis.url, instance=None, topic=TOPIC, group=GROUP)
    rules = Rules(wait_seconds=1, grace_seconds=1)
    async with replica(a_broker(lease=0.5), None, sink, store=store, rules=rules) as one:
        ledger = one.facts.ledger
        assert ledger
        await until(lambda: ledger.ok)
        one.source.publish("slow")  # comes again and again, and is asked about each time
        await until(lambda: one.facts.counts.ledger["lookups"] >= 1)
        with _gone(redis, kind):
            await until(lambda: one.facts.counts.ledger["failures"] >= 1)
            assert not ledger.ok
            assert not_ready(one.facts) is None
            begun = time.monotonic()
            for _ in range(40):  # a question for each would take 18 s
                one.source.publish("quick")
                await until(lambda: one.backlog == 1)
            assert time.monotonic() - begun < 10
        await until(lambda: ledger.ok)
        lookups = one.facts.counts.ledger["lookups"]
        await until(lambda: one.facts.counts.ledger["lookups"] > lookups)


@pytest.mark.timeout(300)
async def test_two_replicas_send_nothing_twice_though_many_of_their_acks_fail(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A store that takes longer counts as gone, and then messages are sent twice by design; the lease is a bound as well.
    monkeypatch.setattr(shared_ledger, "LOOKUP_SECONDS", 10.0)
    broker = a_broker(lease=2)
    stores = [RedisStore(redis.url, instance=None, topic=TOPIC, group=GROUP) for _ in range(2)]
    async with replica(broker, None, store=stores[0], seed=1) as one, replica(broker, None, store=stores[1], seed=2) as other:
        for one_of_both in (one, other):
            lossy(one_of_both, share=0.3)
        ids: list[str] = []
        number = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while number < 60 or not other.facts.counts.ledger["hits"]:  # which of the two is given what came again is chance
                ids += (one, other)[number % 2].source.publish(*"abcdefgh")
                number += 1
                await asyncio.sleep(0.02 if number < 60 else 0.2)
        one.engine.pollers.stop()  # so that what it couldn't ack comes to the other
        await until(lambda: len(one.acked) == len(ids), seconds=120)
    assert sorted(one.sink.sent + other.sink.sent) == sorted(ids)
    assert other.facts.counts.ledger["hits"] > 0


async def test_a_process_that_is_killed_after_its_acks_failed_leaves_what_it_printed_to_the_next(
    redis: RedisServer, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with Emulator(invisible_seconds=2) as emulator:
        settings = environment(emulator.url, ROCKETMQ__WAIT_SECONDS="1", LEDGER__REDIS_URL=redis.url, LOG__LEVEL="debug")
        emulator.faults.ack_refused = 1.0
        ids = sorted(emulator.publish(TOPIC, f"message {number}").message_id for number in range(20))
        with first.open("wb") as stdout:
            async with bridge("run", env=settings, stdout=stdout) as running:
                await until(lambda: len(redis.keys()) == len(ids))
                status, health = await get(f"http://127.0.0.1:{await running.port()}/healthz")
                running.process.kill()
                assert status == 200
                assert '"ledger": {' in health
        emulator.faults.ack_refused = 0.0
        assert sorted(redis.keys()) == [f"bridge:ledger::{TOPIC}:{GROUP}:{message_id}" for message_id in ids]
        with second.open("wb") as stdout:
            async with bridge("run", env=settings, stdout=stdout):
                await until(lambda: len(emulator.broker.group_ids(emulator.now(), TOPIC, GROUP).acked) == len(ids))
                await until(lambda: not redis.keys())
    assert sorted(event["id"] for event in events(first)) == ids
    assert events(second) == []
