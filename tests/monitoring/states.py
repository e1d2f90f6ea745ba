"""The states of a bridge that somebody should know of, and some that nobody should; and which alerts each fires."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Outcome, Refused
from bridge.testing import MemorySink
from ledger.server import running_redis
from monitoring.pods import Pods
from outside import plugin
from outside.command import TOPIC
from rocketmq.servers import answering, http

DAY_SECONDS = 86400.0


SHORT_LEASE_SECONDS = 3.0


async def idle(pods: Pods) -> None:
    async with pods.pod():
        await pods.minutes(10, publish=0)
        async with pods.trouble():
            await pods.minutes(60, publish=0)
        await pods.minutes(10, publish=0)


async def a_rolling_update(pods: Pods) -> None:
    async with AsyncExitStack() as running:
        old = await running.enter_async_context(pods.pod("a"))
        await pods.minutes(15)
        async with pods.trouble():
            await running.enter_async_context(pods.pod("b"))
            await pods.minutes(2)
            old.drain()
            await pods.minutes(5)
        await pods.minutes(30)


async def the_sink_is_down(pods: Pods) -> None:
    sink = MemorySink()
    async with pods.pod(sink=sink):
        await pods.minutes(10)
        async with pods.trouble():
            sink.trouble = SinkDownError("no brokers")
            await pods.minutes(40)
        sink.trouble = None
        await pods.minutes(60)


async def the_sink_is_down_and_the_backlog_unknown(pods: Pods) -> None:
    sink = MemorySink()
    async with pods.pod(sink=sink, management=False):
        await pods.minutes(10)
        async with pods.trouble():
            sink.trouble = SinkDownError("no brokers")
            await pods.minutes(40)
        sink.trouble = None
        await pods.minutes(60)


async def polls_are_denied(pods: Pods) -> None:
    async with pods.pod():
        await pods.minutes(10)
        async with pods.trouble():
            pods.emulator.faults.consume_denied = True
            await pods.minutes(40)
        pods.emulator.faults.consume_denied = False
        await pods.minutes(90)


async def one_pod_is_stuck(pods: Pods) -> None:
    """Its sink blocks the event loop. Another goes on."""
    code = """
import time
from pathlib import Path
from pydantic import BaseModel
from bridge.sinks import CONFIRMED, Sink

class TheSink(Sink):
    class Settings(BaseModel):
        pass
    async def send(self, events, deadline):
        while Path("blocked").exists():
            time.sleep(0.1)
        return [CONFIRMED] * len(events)
"""
    found_in = [str(plugin.install(pods.folder, name="blocking", code=code)), os.environ.get("PYTHONPATH", "")]
    settings = {"BRIDGE_SINK": "blocking", "PYTHONPATH": os.pathsep.join(found_in)}
    blocked = pods.folder / "blocked"
    async with pods.process("a", settings=settings), pods.pod("b"):
        await pods.minutes(10)
        async with pods.trouble():
            blocked.touch()
            await pods.minutes(90)
        blocked.unlink()
        await pods.minutes(30)


async def it_restarts_again_and_again(pods: Pods) -> None:
    async with pods.pod():
        await pods.minutes(10)
    async with pods.trouble():
        for _ in range(5):
            async with pods.pod():
                await pods.minutes(4)
            await pods.minutes(1)
    async with pods.pod():
        await pods.minutes(70)


async def it_is_gone(pods: Pods) -> None:
    async with pods.pod():
        await pods.minutes(10)
    async with pods.trouble():
        await pods.minutes(30)
    async with pods.pod():
        await pods.minutes(20)


async def credentials_are_not_renewed(pods: Pods) -> None:
    """They are short-lived, and renewed when the service refuses them; then longer-lived ones come."""
    lives = (3600, 300, 3600)
    keys = [f"id-{number}" for number in range(len(lives))]
    answers = [_credentials(key, expire_in) for key, expire_in in zip(keys, lives, strict=True)]
    async with answering(*answers) as server:
        chain = {"ALIBABA_CLOUD_CREDENTIALS_URI": f"{server.url}/key", "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
        keyless = dict.fromkeys(("BRIDGE_ROCKETMQ__ACCESS_KEY_ID", "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET"))
        pods.emulator.access_key.key_id = keys[0]
        async with pods.process(settings={**keyless, **chain, "HOME": str(pods.folder)}):
            await pods.minutes(10, publish=0)
            pods.emulator.access_key.key_id = keys[1]
            await pods.minutes(5, publish=0)
            async with pods.trouble():
                await pods.minutes(60, publish=0)
                pods.emulator.access_key.key_id = keys[2]
            await pods.minutes(30, publish=0)


def _credentials(key_id: str, expire_in: float) -> bytes:
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + expire_in))
    key = {"AccessKeyId": key_id, "AccessKeySecret": "SECRET", "SecurityToken": "token", "Expiration": expiration}
    return http(200, json.dumps({"Code": "Success", **key}).encode())


async def messages_get_too_old(pods: Pods) -> None:
    """They were published while nobody could take them."""
    sink = MemorySink()
    async with pods.pod(sink=sink):
        await pods.minutes(10)
        async with pods.trouble():
            sink.hold.clear()
            for minute in range(60):
                pods.emulator.faults.management_delay_seconds = 2 * DAY_SECONDS + 60 * minute
                await pods.minutes(1, publish=20)
        sink.hold.set()
        pods.emulator.faults.management_delay_seconds = None
        await pods.minutes(60)


async def it_falls_behind(pods: Pods) -> None:
    """Half as fast as what comes: each minute the oldest message is half a minute older."""

    class Slow(MemorySink):
        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            await asyncio.sleep(0.1)
            return await super().send(events, deadline)

    async with pods.pod(sink=Slow(), settings={"BRIDGE_ROCKETMQ__MAX_POLLERS": "1", "BRIDGE_ROCKETMQ__BATCH_SIZE": "1"}):
        await pods.minutes(10)
        async with pods.trouble():
            for minute in range(60):
                pods.emulator.faults.management_delay_seconds = 600 + 30 * minute
                await pods.minutes(1, publish=4)
        for minute in range(60):
            pods.emulator.faults.management_delay_seconds = max(0, 2400 - 60 * minute)
            await pods.minutes(1, publish=0)


async def a_message_becomes_a_dead_letter(pods: Pods) -> None:
    sink = MemorySink(_refuses_poison)
    async with answering(http(200)) as server:
        letters = {"BRIDGE_DEAD_LETTER__SINK": "webhook", "BRIDGE_DEAD_LETTER__WEBHOOK__URL": server.url}
        async with pods.pod(sink=sink, settings=letters):
            await pods.minutes(10)
            async with pods.trouble():
                pods.emulator.publish(TOPIC, "poison")
                await pods.minutes(30)
            await pods.minutes(60)


async def a_message_cannot_be_delivered(pods: Pods) -> None:
    poison = True

    def answer(event: Event) -> Outcome:
        return _refuses_poison(event) if poison else CONFIRMED

    async with pods.pod(sink=MemorySink(answer)):
        await pods.minutes(10)
        async with pods.trouble():
            pods.emulator.publish(TOPIC, "poison")
            await pods.minutes(90, publish=0)
        poison = False
        await pods.minutes(30)


def _refuses_poison(event: Event) -> Outcome:
    return Refused("too large") if event.body == "poison" else CONFIRMED


async def in_order_the_sink_is_too_slow(pods: Pods) -> None:
    """The events of a shard are sent one by one, and a batch of them takes longer than the lease."""

    class Slow(MemorySink):
        seconds = 0.0

        async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
            await asyncio.sleep(self.seconds)
            return await super().send(events, deadline)

    sink = Slow()
    async with pods.pod(sink=sink, settings={"BRIDGE_ROCKETMQ__ORDERED": "true", "BRIDGE_ROCKETMQ__MAX_POLLERS": "1"}):
        await pods.minutes(10)
        async with pods.trouble():
            sink.seconds = 0.15 * SHORT_LEASE_SECONDS
            await pods.minutes(60, publish=3)
        sink.seconds = 0
        await pods.minutes(40)


async def acks_are_denied(pods: Pods) -> None:
    async with pods.pod():
        await pods.minutes(10)
        async with pods.trouble():
            pods.emulator.faults.ack_denied = True
            await pods.minutes(60)
        pods.emulator.faults.ack_denied = False
        await pods.minutes(60)


async def redis_is_gone(pods: Pods) -> None:
    """One message comes again with each lease, and the ledger is asked for it; not for an hour, as that fires another."""
    with running_redis() as redis:
        async with pods.pod(sink=MemorySink(_refuses_poison), settings={"BRIDGE_LEDGER__REDIS_URL": redis.url}):
            pods.emulator.publish(TOPIC, "poison")
            await pods.minutes(5)
            async with pods.trouble():
                redis.kill()
                await pods.minutes(35)
            redis.start()
            await pods.minutes(15)


async def polls_are_not_held(pods: Pods) -> None:
    async with pods.pod(settings={"BRIDGE_ROCKETMQ__WAIT_SECONDS": "5"}):
        await pods.minutes(10, publish=0)
        async with pods.trouble():
            pods.emulator.faults.early_not_exist = 1
            await pods.minutes(90, publish=0)
        pods.emulator.faults.early_not_exist = 0
        await pods.minutes(60, publish=0)


async def the_management_api_refuses(pods: Pods) -> None:
    async with pods.pod():
        await pods.minutes(10)
        async with pods.trouble():
            pods.emulator.faults.management_error = "NoPermission"
            await pods.minutes(50)
        pods.emulator.faults.management_error = None
        await pods.minutes(20)


async def nobody_is_listed(pods: Pods) -> None:
    async with pods.pod():
        await pods.minutes(10)
        async with pods.trouble():
            pods.emulator.faults.management_unlisted = True
            await pods.minutes(30)
        pods.emulator.faults.management_unlisted = False
        await pods.minutes(20)


@dataclass(frozen=True)
class State:
    """What happens, and exactly the alerts that fire when it has gone on for a while."""

    happens: Callable[[Pods], Awaitable[None]]
    fires: frozenset[str]
    minute_seconds: float
    """How long a minute takes."""
    lease_seconds: float

    @property
    def name(self) -> str:
        return self.happens.__name__


def _state(
    happens: Callable[[Pods], Awaitable[None]], *alerts: str, minute_seconds: float = 0.2, lease_seconds: float = 300.0
) -> State:
    fires = frozenset(f"RocketMQBridge{alert}" for alert in alerts)
    return State(happens, fires, minute_seconds=minute_seconds, lease_seconds=lease_seconds)


_short_leases = partial(_state, minute_seconds=SHORT_LEASE_SECONDS / 5, lease_seconds=SHORT_LEASE_SECONDS)
"""A lease lasts five minutes in truth, and so it does here."""

STATES = (
    _state(idle),
    _state(a_rolling_update),
    _state(the_sink_is_down, "SinkFailing", "NotFlowing"),
    _state(the_sink_is_down_and_the_backlog_unknown, "SinkFailing", "NotFlowing"),
    _state(polls_are_denied, "BrokerFailing", "NotFlowing"),
    _state(one_pod_is_stuck, "NotReady"),
    _state(it_restarts_again_and_again, "Restarts"),
    _state(it_is_gone, "Absent"),
    _state(credentials_are_not_renewed, "CredentialsExpire"),
    _state(messages_get_too_old, "RetentionNear", "NotFlowing", "FallingBehind"),
    _state(it_falls_behind, "FallingBehind"),
    _state(a_message_becomes_a_dead_letter, "DeadLetters"),
    _short_leases(a_message_cannot_be_delivered, "Undeliverable"),
    _short_leases(in_order_the_sink_is_too_slow, "LeasesExpire"),
    _state(acks_are_denied, "AcksFail", "NotFlowing"),
    # Redis is left alone for up to 10 seconds when it hasn't answered, and so a minute must be longer than for the others.
    _state(redis_is_gone, "LedgerFailing", minute_seconds=2, lease_seconds=10),
    _state(polls_are_not_held, "Throttled"),
    _state(the_management_api_refuses, "BacklogUnknown"),
    _state(nobody_is_listed, "ConsumerOffline"),
)
