"""The three calls of a client, and what comes of them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.message import Message
from rocketmq.documents import error
from rocketmq.servers import http

SUBSCRIPTION = Subscription(topic="topicA", group="GID_a", instance="MQ_INST_1")
IDLE = http(404, error("MessageNotExist"))
"""Nothing to deliver."""


async def poll(client: Client, *, max_messages: int = 1, wait_seconds: int = 0) -> list[Message]:
    polled = await client.poll(SUBSCRIPTION, max_messages=max_messages, wait_seconds=wait_seconds)
    return [message for message in polled.messages if isinstance(message, Message)]


async def ack(client: Client) -> object:
    return await client.ack(SUBSCRIPTION, ["h"])


async def publish(client: Client) -> object:
    return await client.publish("topicA", instance="MQ_INST_1", body="a")


Call = Callable[[Client], Awaitable[object]]
CALLS = pytest.mark.parametrize("call", [poll, ack, publish])


async def failure_of(call: Awaitable[object]) -> Exception:
    """What a call raises; that it ends at all is part of each promise."""
    async with asyncio.timeout(20):
        try:
            await call
        except Exception as problem:  # noqa: BLE001 - the caller looks at it
            return problem
    raise AssertionError("nothing was raised")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells, 10 seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the emulator has no event for it
            await asyncio.sleep(0.002)
