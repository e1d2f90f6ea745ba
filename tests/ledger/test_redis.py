"""The store in a real Redis: what it keeps and for how long, and what it makes of a Redis that is gone."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from bridge.delivery.redis_store import KEEP_SECONDS, RedisStore
from bridge.errors import FixSettingsError, TryAgainError
from ledger.server import RedisServer

PREFIX = "bridge:ledger:MQ_INST_1:orders:GID_orders:"


@asynccontextmanager
async def a_store(
    url: str, *, instance: str | None = "MQ_INST_1", topic: str = "orders", group: str = "GID_orders"
) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, instance=instance, topic=topic, group=group)
    try:
        yield store
    finally:
        await store.close()


def sinks(*names: str) -> frozenset[str]:
    return frozenset(names)


async def test_an_entry_is_the_union_of_what_was_written_and_ends_three_days_after_that(redis: RedisServer) -> None:
    async with a_store(redis.url) as one, a_store(redis.url) as other:
        await one.write({"A": sinks("kafka"), "B": sinks("kafka", "webhook")})
        with redis.client() as client:
            client.expire(f"{PREFIX}A", 10)
        await other.write({"A": sinks("webhook")})
        assert list(map(set, await one.read(["A", "C", "B"]))) == [{"kafka", "webhook"}, set(), {"kafka", "webhook"}]
        with redis.client() as client:
            assert KEEP_SECONDS - 60 < int(str(client.ttl(f"{PREFIX}A"))) <= KEEP_SECONDS == 259_200
        await one.write({"A": frozenset(), "never written": frozenset()})
        assert redis.keys() == {f"{PREFIX}B": ["kafka", "webhook"]}


async def test_many_are_written_and_read_with_one_call_each(redis: RedisServer) -> None:
    async with a_store(redis.url) as store:
        ids = [f"{number:032X}" for number in range(500)]
        await store.write({message_id: sinks("kafka") for message_id in ids})
        assert await store.read(ids) == [{"kafka"}] * 500
        assert redis.commands() == {"multi": 1, "sadd": 500, "expire": 500, "exec": 1, "smembers": 500}


async def test_what_one_group_has_confirmed_is_nothing_to_another(redis: RedisServer) -> None:
    async with (
        a_store(redis.url, instance="i", topic="t", group="GID_a") as one,
        a_store(redis.url, instance="i", topic="t", group="GID_b") as other_group,
        a_store(redis.url, instance="i:t", topic="GID_a", group="") as shifted,
        a_store(redis.url, instance=None, topic="i:t", group="GID_a") as another_shifted,
        a_store(redis.url, instance="i%3At", topic="GID_a", group="") as escaped,
    ):
        for number, store in enumerate((one, other_group, shifted, another_shifted, escaped)):
            assert await store.read(["A", ":A"]) == [set(), set()]
            await store.write({"A": sinks(f"sink{number}"), ":A": sinks(f"sink{number}")})
        assert await one.read(["A"]) == [{"sink0"}]
        assert len(redis.keys()) == 10


async def test_what_waits_for_a_frozen_redis_can_be_cut_off_and_the_answers_to_others_are_theirs(redis: RedisServer) -> None:
    async with a_store(redis.url) as store:
        await store.write({"A": sinks("a"), "B": sinks("b")})
        redis.freeze()
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await store.read(["A", "A"])
        finally:
            redis.thaw()
        assert await asyncio.gather(*(store.read([name]) for name in "BAB")) == [[{"b"}], [{"a"}], [{"b"}]]


async def test_a_connection_that_redis_has_closed_is_replaced_and_not_an_error(redis: RedisServer) -> None:
    async with a_store(redis.url) as store:
        await store.check()
        redis.kill()
        redis.start()
        assert await store.read(["A"]) == [set()]


async def test_a_redis_that_is_gone_is_something_to_try_again(redis: RedisServer) -> None:
    redis.kill()
    try:
        async with a_store(redis.url) as store:
            for call in (store.check(), store.read(["A"]), store.write({"A": sinks("kafka")})):
                with pytest.raises(TryAgainError, match=r"Connection refused|Connect call failed"):
                    await call
    finally:
        redis.start()


async def test_user_and_password_of_the_url_are_used_and_never_shown(redis: RedisServer) -> None:
    with redis.client() as client:
        rights = ["~bridge:ledger:*", "+multi", "+exec", "+sadd", "+expire", "+del", "+smembers", "+ping"]
        client.execute_command("ACL", "SETUSER", "bridge", "on", ">se/cret", *rights)
    address = redis.url.removeprefix("redis://")
    async with a_store(f"redis://bridge:se%2Fcret@{address}") as store:
        await store.check()
        await store.write({"A": sinks("kafka")})
        assert await store.read(["A"]) == [{"kafka"}]
    async with a_store(f"redis://bridge:wr0ng@{address}") as store:
        with pytest.raises(TryAgainError) as refused:
            await store.check()
        assert "password" in str(refused.value)
        assert "wr0ng" not in str(refused.value)


async def test_a_command_that_redis_refuses_is_something_to_try_again(redis: RedisServer) -> None:
    with redis.client() as client:
        client.set(f"{PREFIX}A", "somebody else's")
    async with a_store(redis.url) as store:
        with pytest.raises(TryAgainError, match="WRONGTYPE"):
            await store.write({"A": sinks("kafka"), "B": sinks("kafka")})
        with pytest.raises(TryAgainError, match="WRONGTYPE"):
            await store.read(["A"])


async def test_a_unix_socket_and_tls_are_spoken(redis: RedisServer) -> None:
    ca = trustme.CA()
    async with a_store(redis.unix_url) as store:
        await store.write({"A": sinks("kafka")})
    async with _behind_tls(redis, ca) as port:
        with ca.cert_pem.tempfile() as trusted:
            async with a_store(f"rediss://localhost:{port}/0?ssl_ca_certs={trusted}") as store:
                assert await store.read(["A"]) == [{"kafka"}]
        async with a_store(f"rediss://localhost:{port}/0") as store:
            with pytest.raises(TryAgainError, match="certificate"):
                await store.check()


@asynccontextmanager
async def _behind_tls(redis: RedisServer, ca: trustme.CA) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", redis.port)
        await asyncio.gather(copy(reader, to_redis), copy(from_redis, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("query", ["no_such_option=s3cret", "socket_timeout=s3cret", "db=s3cret"])
def test_options_that_redis_clients_do_not_know_are_a_mistake_of_the_settings(query: str) -> None:
    with pytest.raises(FixSettingsError, match="BRIDGE_LEDGER__REDIS_URL") as mistake:
        RedisStore(f"redis://127.0.0.1:6379/0?{query}", instance=None, topic="t", group="GID_g")
    assert "s3cret" not in str(mistake.value)
