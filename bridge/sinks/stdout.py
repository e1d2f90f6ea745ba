"""Events on standard output, one a line.

A line is confirmed when it has been written out whole. Writing to a pipe may block for as long as its reader likes, so it is
done by a thread of its own: a blocked reader slows the bridge, and neither freezes its event loop nor, the thread being a
daemon, its exit.
"""

import asyncio
import os
import select
import sys
import threading
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import orjson
from pydantic import BaseModel, ConfigDict

from bridge.errors import FixSettingsError, SinkGoneError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, Refused, Sink, Unknown

T = TypeVar("T")

CLOSE_SECONDS = 2.0
"""How long closing waits for a blocked reader."""


class StdoutSettings(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid")


@dataclass(slots=True, eq=False)
class _Write:
    lines: bytes
    written: "asyncio.Future[Confirmed | Refused | Again]"
    begun: bool = False


class StdoutSink(Sink):
    """Writes each event as one line of JSON, in the order of the calls. `descriptor` is the file to write to."""

    Settings = StdoutSettings

    def __init__(self, settings: StdoutSettings, *, descriptor: int = 1) -> None:
        super().__init__(settings)
        self._descriptor = descriptor
        self._writes: SimpleQueue[_Write | None] = SimpleQueue()
        self._ended: asyncio.Future[None] | None = None
        self._gone: SinkGoneError | None = None
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Start the thread that writes. Raises FixSettingsError when the process was started without a stdout."""
        if self._descriptor == 1 and sys.stdout is None:
            raise FixSettingsError("stdout is closed: give it a reader, or another sink by BRIDGE_SINK")
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        threading.Thread(target=self._write_all, args=(loop, self._ended), name="stdout", daemon=True).start()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """Confirm once all lines are written. Raises SinkGoneError when the reader has closed the pipe."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            return [Again("too late to begin with it")] * len(events)
        lines = [_line(event) for event in events]
        write = _Write(b"\n".join([*lines, b""]), loop.create_future())
        self._writes.put(write)
        await asyncio.wait([write.written], timeout=max(0.0, deadline - loop.time()))
        if write.written.done() and write.written.result() == CONFIRMED:  # perhaps just before the reader went
            return [CONFIRMED] * len(events)
        if self._gone:
            raise self._gone
        with self._lock:
            if not write.begun:
                write.lines = b""  # too late to begin: the thread will find nothing to write
                return [Again("stdout is blocked by its reader")] * len(events)
        return [Unknown(write.written)] * len(events)

    async def close(self) -> None:
        """Wait for the thread to have written what was handed over, for two seconds at most."""
        self._writes.put(None)
        if self._ended:
            await asyncio.wait([self._ended], timeout=CLOSE_SECONDS)

    def _write_all(self, loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]") -> None:
        # When the loop has been closed, RuntimeError says so: everybody who wanted to know has gone.
        with suppress(RuntimeError):
            while write := self._writes.get():
                with self._lock:
                    write.begun = True
                if not self._gone:  # once it is gone, the callers that wait are only told so
                    self._write_out(write.lines)
                outcome = Again("stdout was closed") if self._gone else CONFIRMED
                loop.call_soon_threadsafe(_settle, write.written, outcome)
            loop.call_soon_threadsafe(_settle, ended, None)

    def _write_out(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody else made the file non-blocking, as may be with a shared terminal
                select.select([], [self._descriptor], [])
            except BrokenPipeError:
                self._gone = SinkGoneError("stdout was closed by its reader: the bridge ends")
                return
            except OSError as problem:
                self._gone = SinkGoneError(f"writing to stdout: {problem.strerror}: the bridge ends")
                return


def _line(event: Event) -> bytes:
    """The event without line breaks.

    In JSON they can only stand between tokens, where spaces are as good. A body alone that is no JSON is written as a string of
    JSON when it has any, and bytes in Base64.
    """
    written = event.structured()
    if b"\n" not in written and b"\r" not in written:
        return written
    if "json" in event.media_type:
        return written.replace(b"\r", b" ").replace(b"\n", b" ")
    return orjson.dumps(event.body if isinstance(event.body, str) else b64encode(event.body).decode())


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)
