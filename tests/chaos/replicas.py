"""Bridges as real processes that are killed, frozen and told to end, and started again."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import orjson

from acceptance.processes import Running, bridge
from bridge.cli import WRONG_SETTINGS
from chaos.journal import Exit, Journal

AGAIN_SECONDS = 1.0
"""Until a process that refused to run is followed by another."""
END_SECONDS = 30.0
"""How much longer than its grace a process may take to end before the round breaks off."""


class Replica:
    """One bridge, as an orchestrator sees it: it has a name, and one process after the other.

    `environment` gives the settings of a process by its name. A process that ends unasked is a fault, unless it says that it
    can't begin with such settings while `may_refuse`: it is started again, as an orchestrator would.
    """

    def __init__(
        self,
        name: str,
        environment: Callable[[str], Mapping[str, str]],
        journal: Journal,
        session: aiohttp.ClientSession,
        *,
        grace_seconds: float,
        may_refuse: Callable[[], bool],
    ) -> None:
        self.name = name
        self.process = ""
        """The name of the process that runs, or ran last."""
        self._environment = environment
        self._journal = journal
        self._session = session
        self._grace_seconds = grace_seconds
        self._may_refuse = may_refuse
        self.lock = asyncio.Lock()
        """Held by whoever ends a process and starts another."""
        self._processes = 0
        self._running: Running | None = None
        self._stack = AsyncExitStack()
        self._watching: asyncio.Task[None] | None = None
        self._health = ""

    async def start(self) -> None:
        """Start a process, and return when it says that it has started."""
        self._processes += 1
        self.process = f"{self.name.replace(' ', '-')}.{self._processes}"
        self._running = await self._stack.enter_async_context(bridge("run", env=dict(self._environment(self.process))))
        started = await self._running.event("started")
        self._health = f"http://127.0.0.1:{started['health_port']}/healthz"
        self._watching = asyncio.create_task(self._watch(self._running))

    async def _watch(self, running: Running) -> None:
        code = await running.process.wait()
        if code == WRONG_SETTINGS and self._may_refuse():
            async with self.lock:
                await asyncio.sleep(AGAIN_SECONDS)
                await self._stack.aclose()
                await self.start()
        else:
            self._journal.faults.append(f"{self.process} ended by itself, exit code {code}: {''.join(running.errors[-5:])}")

    async def kill(self) -> None:
        """End it with SIGKILL."""
        running = self._let_go()
        if running.process.returncode is None:
            running.process.kill()
        await self._ended(running, END_SECONDS)

    async def terminate(self) -> Exit:
        """Tell it to end, and see how it does."""
        running = self._let_go()
        began = time.monotonic()
        if running.process.returncode is None:
            running.process.terminate()
        code = await self._ended(running, self._grace_seconds + END_SECONDS)
        return Exit(process=self.process, code=code, seconds=time.monotonic() - began)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal that doesn't end it."""
        assert self._running
        if self._running.process.returncode is None:
            self._running.process.send_signal(number)

    def _let_go(self) -> Running:
        assert self._running
        assert self._watching
        self._watching.cancel()
        return self._running

    async def _ended(self, running: Running, seconds: float) -> int:
        code = await running.end(seconds=seconds)
        self._journal.faults += [f"{self.process}: {line}" for line in running.errors if "Traceback" in line]
        await self._stack.aclose()
        return code

    async def close(self) -> None:
        """Kill what still runs."""
        if self._watching:
            self._watching.cancel()
        await self._stack.aclose()

    async def ask(self) -> Mapping[str, Any] | None:
        """What it says of its messages, which the journal notes; None where it doesn't answer, as while it is frozen."""
        process = self.process
        try:
            async with self._session.get(self._health) as answer:
                report: Mapping[str, Any] = orjson.loads(await answer.read())["messages"]
        except (aiohttp.ClientError, TimeoutError):
            return None
        self._journal.reports[process] = report
        return report

    async def has_worked(self) -> bool:
        """Whether its process has acked anything."""
        report = await self.ask()
        return bool(report and report["acked"])
