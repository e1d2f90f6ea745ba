"""From `publish` over a broker and back into an event: what XML can hold arrives unchanged."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.emulator.server import Emulator
from bridge.event import Origin
from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.message import Message
from rocketmq.servers import client_of

CONVERSION = Conversion(
    origin=Origin(topic="topicA", group="GID_a"), source="/rocketmq/topicA", type_="com.aliyun.rocketmq.message"
)


@dataclass
class World:
    """An emulator with a client, on a loop that lives as long as the module."""

    runner: asyncio.Runner
    client: Client
    topics: Iterator[str]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def enter() -> Client:
            emulator = await stack.enter_async_context(Emulator())
            return await stack.enter_async_context(client_of(emulator.url))

        try:
            yield World(runner, runner.run(enter()), (f"topic-{number}" for number in count()))
        finally:
            runner.run(stack.aclose())


# XML 1.0, Char, but for U+0000 to U+001F: of these it has tab, line feed and carriage return.
LEGAL = st.characters(min_codepoint=0x20, max_codepoint=0x10FFFF, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")
TEXTS = st.text(LEGAL | st.sampled_from("\r\n\t&<>\"']]>;{}[]\ufdd0\ufeff\x85\u2028"), min_size=1, max_size=40)
JSON_TEXTS = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(LEGAL),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(LEGAL), inner),
    max_leaves=8,
).flatmap(lambda value: st.sampled_from([json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)]))
# What may stand in a property, and in a tag (protocol.md 5.1, 2.1).
NAMES = st.text(LEGAL | st.sampled_from("\r\n\t "), min_size=1, max_size=20).filter(
    lambda text: not set(text) & set("\"'<>&:|")
)
TAGS = TEXTS.filter(lambda text: "|" not in text)
RESERVED = {"KEYS", "__SHARDINGKEY", "__STARTDELIVERTIME", "__TransCheckT", "__BORNHOST", "TAGS"}


@settings(max_examples=120, deadline=None)
@given(
    body=TEXTS | JSON_TEXTS,
    tag=st.none() | TAGS,
    keys=st.none() | NAMES,
    sharding_key=st.none() | NAMES,
    others=st.dictionaries(NAMES.filter(lambda name: name not in RESERVED), NAMES, max_size=4),
    ordered=st.booleans(),
)
def test_what_is_published_arrives_unchanged(
    world: World,
    *,
    body: str,
    tag: str | None,
    keys: str | None,
    sharding_key: str | None,
    others: dict[str, str],
    ordered: bool,
) -> None:
    named = {"KEYS": keys, "__SHARDINGKEY": sharding_key}
    properties = {name: value for name, value in named.items() if value} | others

    message, left = world.runner.run(travel(world, body=body, tag=tag, properties=properties, ordered=ordered))

    assert left == ()
    assert message.body == body
    assert message.tag == tag
    assert message.properties == properties
    assert (message.keys, message.sharding_key) == (keys, sharding_key)
    event = CONVERSION.event(message)
    assert event.data.decode() == body
    assert "mqbodymd5" not in event.attributes  # the broker's MD5 is that of what we got
    assert event.properties == properties


async def travel(
    world: World, *, body: str, tag: str | None, properties: dict[str, str], ordered: bool
) -> tuple[Message, tuple[object, ...]]:
    """Publish to a topic of its own, poll, ack and poll again; what came, and what came after."""
    topic = next(world.topics)
    client = world.client
    # The tag is asked for too, as it has to survive the query; what is blank around a tag nobody can ask for.
    wanted = tag if tag and tag == tag.strip() else None
    subscription = Subscription(topic=topic, group="GID_a", instance="MQ_INST_1", tag=wanted, ordered=ordered)
    await client.publish(topic, instance="MQ_INST_1", body=body, tag=tag, properties=properties)
    (message,) = (await client.poll(subscription, max_messages=16, wait_seconds=0)).messages
    assert isinstance(message, Message)
    assert await client.ack(subscription, [message.receipt_handle]) == ()
    return message, (await client.poll(subscription, max_messages=16, wait_seconds=0)).messages
