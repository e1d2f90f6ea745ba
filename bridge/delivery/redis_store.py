"""The shared ledger's entries in Redis. Imported only where Redis is used: its client is an extra."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bridge.errors import FixSettingsError, TryAgainError

KEEP_SECONDS = 3 * 24 * 3600
"""How long an entry is kept: the broker keeps a message for three days from its publishing (protocol.md 9)."""


class RedisStore:
    """A `Store`: for each message a set of sinks, `bridge:ledger:<instance>:<topic>:<group>:<message id>`.

    The group is part of the key, as what one group has delivered says nothing about another. Commands: MULTI, SADD, EXPIRE and
    DEL to write, SMEMBERS to read, PING. Raises FixSettingsError when the URL can't be used.
    """

    def __init__(self, url: str, *, instance: str | None, topic: str, group: str) -> None:
        # What the parts may hold is the service's to say; escaped, no two groups have the same prefix.
        self._prefix = ":".join(["bridge:ledger", *(quote(part, safe="") for part in (instance or "", topic, group)), ""])
        try:
            # Version 2 of the protocol is spoken by every server, and by what stands in for one. One retry at once, for a
            # connection that had been closed while it was idle; every call may be made twice. The caller sets the bounds.
            self._redis: Redis = Redis.from_url(url, protocol=2, decode_responses=True, retry=Retry(NoBackoff(), 1))
            # The options of the URL are looked at here; the client types this method not at all.
            self._redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        except (RedisError, ValueError, TypeError) as problem:
            raise FixSettingsError(f"BRIDGE_LEDGER__REDIS_URL can't be used: {problem}") from None

    async def read(self, message_ids: Sequence[str]) -> Sequence[Iterable[str]]:
        """See `Store.read`."""
        with _asking():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for message_id in message_ids:
                    pipeline.smembers(self._prefix + message_id)
                entries: list[set[str]] = await pipeline.execute()
        return entries

    async def write(self, entries: Mapping[str, frozenset[str]]) -> None:
        """See `Store.write`."""
        with _asking():
            # As one transaction, so that no entry is ever without its end.
            async with self._redis.pipeline(transaction=True) as pipeline:
                for message_id, sinks in entries.items():
                    key = self._prefix + message_id
                    if sinks:
                        pipeline.sadd(key, *sinks)
                        pipeline.expire(key, KEEP_SECONDS)
                    else:
                        pipeline.delete(key)
                await pipeline.execute()

    async def check(self) -> None:
        """See `Store.check`."""
        with _asking():
            await self._redis.ping()

    async def close(self) -> None:
        """See `Store.close`."""
        with _asking():
            await self._redis.aclose()


@contextmanager
def _asking() -> Iterator[None]:
    """Translate what the client raises, whatever it is: not even a bug of its may reach the delivery (promise 9)."""
    try:
        yield
    except Exception as problem:
        text = str(problem) if isinstance(problem, RedisError | OSError) else f"{type(problem).__name__}: {problem}"
        raise TryAgainError(f"asking Redis: {text}") from problem
