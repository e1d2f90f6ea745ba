"""Counterparts on 127.0.0.1 that do exactly what a test says, byte for byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from bridge.rocketmq.client import Client, Patience
from bridge.rocketmq.credentials import Credentials

CREDENTIALS = Credentials(access_key_id="AKID", access_key_secret="SECRET")


def client_of(url: str, *, patience: Patience | None = None, tls: ssl.SSLContext | bool = True) -> Client:
    """A client with the emulator's key."""
    return Client(url, lambda: CREDENTIALS, max_connections=4, ssl=tls, patience=patience or Patience())


@dataclass
class Line:
    """One connection that a server has accepted."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """The next request. Raises `asyncio.IncompleteReadError` when there is none any more."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)

    async def send(self, data: bytes) -> None:
        """Returns when the operating system has taken it."""
        self.writer.write(data)
        await self.writer.drain()


@dataclass
class Server:
    """What has come to a server."""

    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def serving(behave: Callable[[Line], Awaitable[None]], *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that does so with every connection, and closes it afterwards."""
    server = Server()
    tasks = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        tasks.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await behave(Line(reader, writer))
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            if task:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)


@asynccontextmanager
async def answering(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that gives these answers, the last of them again and again, and keeps its connections."""
    remaining = list(answers)

    async def behave(line: Line) -> None:
        while True:
            server.requests.append(await line.request())
            await line.send(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    async with serving(behave, tls=tls) as server:
        yield server


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer of HTTP."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
