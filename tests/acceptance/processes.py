"""Real processes of the command `bridge`, for the tests that prove what a user sees."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import aiohttp

TOPIC, GROUP = "orders", "GID_orders"

PATIENCE_SECONDS = 60.0
"""How long anything that should happen soon may take on a busy machine."""


def environment(endpoint: str, **more: str) -> dict[str, str]:
    """The settings of a bridge that consumes `orders` at an endpoint; `more` are further variables, without BRIDGE_."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    return plain | {
        "BRIDGE_ROCKETMQ__ENDPOINT": endpoint,
        "BRIDGE_ROCKETMQ__TOPIC": TOPIC,
        "BRIDGE_ROCKETMQ__GROUP_ID": GROUP,
        "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET",
        "BRIDGE_HTTP__HOST": "127.0.0.1",
        "BRIDGE_HTTP__PORT": "0",
        **{f"BRIDGE_{name}": value for name, value in more.items()},
    }


@dataclass
class Running:
    """One process, its stderr read as it comes."""

    process: asyncio.subprocess.Process
    errors: list[str]
    _reading: "asyncio.Task[None]"
    _came: asyncio.Condition

    async def line(self, wanted: Callable[[str], bool], *, seconds: float = PATIENCE_SECONDS) -> str:
        """The first line of stderr that is wanted, when it comes."""
        async with asyncio.timeout(seconds), self._came:
            while not any(wanted(line) for line in self.errors):
                assert not self._reading.done(), "".join(self.errors)
                await self._came.wait()
        return next(line for line in self.errors if wanted(line))

    async def event(self, name: str, *, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The first log line of that event."""
        line = await self.line(lambda text: f'"event": "{name}' in text, seconds=seconds)
        parsed: dict[str, Any] = json.loads(line)
        return parsed

    async def port(self) -> int:
        """Where this bridge serves its health."""
        return int((await self.event("started"))["health_port"])

    async def end(self, *, seconds: float = 20.0) -> int:
        """Wait for its end; tells its exit code."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reading
        return code


@asynccontextmanager
async def bridge(
    *arguments: str, env: dict[str, str], stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL
) -> AsyncIterator[Running]:
    """Run `bridge` for the length of the block; it is killed at its end if it hasn't ended."""
    with tempfile.TemporaryDirectory() as folder:  # so that nobody's .env is read
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", *arguments, env=env, cwd=folder, stdout=stdout, stderr=asyncio.subprocess.PIPE
        )
        errors: list[str] = []
        came = asyncio.Condition()

        async def read() -> None:
            assert process.stderr
            async for line in process.stderr:
                errors.append(line.decode())
                async with came:
                    came.notify_all()
            async with came:
                came.notify_all()

        running = Running(process, errors, asyncio.create_task(read()), came)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await running.end()


@asynccontextmanager
async def emulator(**settings: str) -> AsyncIterator[tuple[Running, str]]:
    """`bridge emulator` as a process, and its endpoint; settings without BRIDGE_EMULATOR__."""
    env = dict(os.environ) | {f"BRIDGE_EMULATOR__{name}": value for name, value in {"PORT": "0", **settings}.items()}
    async with bridge("emulator", env=env) as running:
        line = await running.line(lambda text: "listens on" in text)
        yield running, line.split()[-1]


async def get(url: str) -> tuple[int, str]:
    """Status and text of a page."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def until(condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until it holds: a value, or something to await."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return
            await asyncio.sleep(0.02)


def events(path: Path) -> list[dict[str, Any]]:
    """The events of a file, one a line; a line that isn't whole yet is left out."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
