"""The command `bridge`, run as people run it: in a process of its own, in a folder of its own."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.emulator.server import Emulator

PATIENCE_SECONDS = 60.0
"""How long anything that should happen soon may take on a busy machine."""

TOPIC, GROUP = "orders", "GID_outside"


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


def settings_for(emulator: Emulator) -> dict[str, str]:
    """The environment of a bridge that consumes from this emulator, and disturbs nobody on this machine."""
    return {
        "BRIDGE_ROCKETMQ__ENDPOINT": emulator.url,
        "BRIDGE_ROCKETMQ__TOPIC": TOPIC,
        "BRIDGE_ROCKETMQ__GROUP_ID": GROUP,
        "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET",
        "BRIDGE_ROCKETMQ__WAIT_SECONDS": "1",
        "BRIDGE_HTTP__HOST": "127.0.0.1",
        "BRIDGE_HTTP__PORT": "0",
    }


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: text for name, text in os.environ.items() if not re.search("(?i)^bridge_|proxy$", name)}
    return {**inherited, **settings}


@asynccontextmanager
async def started(
    *arguments: str, folder: Path, settings: Mapping[str, str] | None = None, stdout: int = PIPE
) -> AsyncIterator[Process]:
    """The command, running; it is killed at the end if it still is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", *arguments,
        cwd=folder, env=environment(settings or {}), stdin=PIPE, stdout=stdout, stderr=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def bridge(*arguments: str, folder: Path, settings: Mapping[str, str] | None = None, stdin: bytes = b"") -> Finished:
    """The command, run to its end."""
    async with started(*arguments, folder=folder, settings=settings) as process:
        return await finished(process, stdin=stdin)


async def finished(process: Process, *, stdin: bytes | None = None, stop: bool = False) -> Finished:
    """What became of it; `stop` sends SIGTERM first."""
    if stop:
        process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Finished(process.returncode, (out or b"").decode(), err.decode())


async def said(process: Process, text: str) -> str:
    """The first line of stderr that holds `text`."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for line in process.stderr:
            if text in line.decode():
                return line.decode()
    raise AssertionError(f"it ended without saying {text!r}")
