"""The network: a TCP proxy before a server, which can be told to behave as networks do."""

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 65_536
_TRICKLE_BYTES, _TRICKLE_SECONDS = 256, 0.05
"""5 kB/s."""


class Mood(enum.Enum):
    """How a wire behaves."""

    FLOWS = "flows"
    REFUSES = "refuses"
    """New connections are reset at once; those that are open go on."""
    STALLS = "stalls"
    """Everything is taken, and kept back until the wire flows again."""
    TRICKLES = "trickles"
    """A few bytes at a time."""


class Wire:
    """Between clients and a server on this machine, for as long as the `async with` lasts."""

    def __init__(self) -> None:
        self.target = 0
        """The server's port; to be set before somebody connects."""
        self._mood = Mood.FLOWS
        self._not_stalled = asyncio.Event()
        self._not_stalled.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        connections = list(self._connections)
        self.cut()
        await asyncio.gather(*connections, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where clients connect."""
        assert self._server
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    def cut(self) -> None:
        """Reset every connection that is open; what it had not passed on is lost."""
        for connection in self._connections:
            connection.cancel()

    def behave(self, mood: Mood) -> None:
        """From now on, connections that are open included."""
        self._mood = mood
        if mood is Mood.STALLS:
            self._not_stalled.clear()
        else:
            self._not_stalled.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            async with _closed(writer):
                if self._mood is Mood.REFUSES:
                    raise ConnectionRefusedError
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
                async with _closed(to_server):
                    await _both(self._pass(reader, to_server), self._pass(from_server, writer))
        except (OSError, asyncio.CancelledError):
            pass  # reset by either side, or by `cut`; the other side has been told
        finally:
            self._connections.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, until its end, and that too."""
        while data := await reader.read(_CHUNK_BYTES):
            await self._not_stalled.wait()
            while self._mood is Mood.TRICKLES and len(data) > _TRICKLE_BYTES:
                _write(writer, data[:_TRICKLE_BYTES])
                data = data[_TRICKLE_BYTES:]
                await asyncio.sleep(_TRICKLE_SECONDS)
            _write(writer, data)
            await writer.drain()
        await self._not_stalled.wait()
        if not writer.is_closing():
            writer.write_eof()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():  # asyncio would only warn, and uvloop raises what is no OSError
        raise ConnectionResetError
    writer.write(data)


async def _both(*directions: Coroutine[None, None, None]) -> None:
    """Run them to their ends; the first that fails ends the other."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _closed(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closed at the end; reset, and what was still to be passed on lost, at an end by an error."""
    try:
        yield
    except BaseException:
        if not writer.transport.is_closing():
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        raise
    writer.close()
