"""The source that the bench measures with, as our own client sees it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from hashlib import md5
from itertools import product
from operator import attrgetter
from typing import NamedTuple

import pytest

from bench.source import Consumer, Paced, Source
from bench.topics import ENDLESS, KINDS, Topic
from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.message import Message


class Polling(NamedTuple):
    source: Source
    client: Client

    async def poll(self, name: str, *, ordered: bool = False, wait_seconds: int = 0) -> list[Message]:
        subscription = Subscription(topic=name, group="GID_bench", ordered=ordered)
        polled = await self.client.poll(subscription, max_messages=16, wait_seconds=wait_seconds)
        messages = [message for message in polled.messages if isinstance(message, Message)]
        assert len(messages) == len(polled.messages), "none is damaged"
        return messages


@asynccontextmanager
async def polling() -> AsyncIterator[Polling]:
    source, key = Source(), Credentials(access_key_id="AKID", access_key_secret="SECRET")
    server = await asyncio.get_running_loop().create_server(partial(Consumer, source), "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Client(endpoint, lambda: key, max_connections=2) as client:
        yield Polling(source, client)


@pytest.mark.parametrize(("kind", "size"), list(product(KINDS, [100, 1024, 16384])))
async def test_bodies_are_what_the_topic_says_and_their_digests_fit(kind: str, size: int) -> None:
    topic = Topic(kind, size, None, "1")
    async with polling() as bench:
        messages = await bench.poll(str(topic))

    assert [message.body for message in messages] == [topic.body(position) for position in range(16)]
    assert {len(message.body) for message in messages} == {size}
    for message in messages:
        assert message.body_md5 == md5(message.body.encode(), usedforsecurity=False).hexdigest().upper()


@pytest.mark.parametrize("ordered", [False, True])
async def test_no_id_handle_or_key_comes_twice(ordered: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async with polling() as bench:
        messages = [m for _ in range(50) for m in await bench.poll(f"json-100-{ENDLESS}-1", ordered=ordered)]

    for part in map(attrgetter, ("message_id", "receipt_handle", "keys")):
        assert len(set(map(part, messages))) == 50 * 16
    assert {message.consumed_times for message in messages} == {1}
    leases = {message.next_consume_time - (message.first_consume_time or 0) for message in messages}
    assert leases == {60_000 if ordered else 300_000}


async def test_what_is_ordered_has_several_messages_of_a_shard() -> None:
    async with polling() as bench:
        first, second = [await bench.poll(f"json-100-{ENDLESS}-1", ordered=True) for _ in range(2)]

    shards, others = ({message.sharding_key for message in messages} for messages in (first, second))
    assert None not in shards
    assert len(shards) == 4
    assert not shards & others


async def test_acks_are_accepted_and_counted_for_their_topic_alone() -> None:
    async with polling() as bench:
        acked, other = f"json-100-{ENDLESS}-1", f"json-100-{ENDLESS}-2"
        await bench.poll(other)
        handles = [message.receipt_handle for message in await bench.poll(acked)]
        refused = await bench.client.ack(Subscription(topic=acked, group="GID_bench"), handles)
        counts = [bench.source.feed(name).counts for name in (acked, other)]

    assert not refused
    assert [(count.polls, count.delivered, count.acks, count.acked) for count in counts] == [(1, 16, 1, 16), (1, 16, 0, 0)]


async def test_a_topic_with_a_pace_delivers_what_it_publishes_and_tells_when_it_was_acked() -> None:
    name = "json-100-200-1"
    async with polling() as bench:
        acked: list[str] = []
        while len(acked) < 20:
            messages = await bench.poll(name, wait_seconds=5)
            await bench.client.ack(Subscription(topic=name, group="GID_bench"), [m.receipt_handle for m in messages])
            acked += [message.message_id for message in messages]
        feed = bench.source.feed(name)
        assert isinstance(feed, Paced)
        latencies = feed.latencies

    assert [message_id for message_id, _, _ in latencies] == acked
    assert all(published_at <= acked_at for _, published_at, acked_at in latencies)
    first, last = latencies[0][1], latencies[-1][1]
    assert last - first >= (len(acked) - 1) / 200 - 0.02, "it publishes no faster than its pace"


async def test_an_idle_topic_holds_a_poll_and_then_has_nothing() -> None:
    async with polling() as bench:
        loop = asyncio.get_running_loop()
        began = loop.time()
        messages = await bench.poll("json-100-0-1", wait_seconds=1)
        held = loop.time() - began

    assert not messages
    assert held >= 0.99
