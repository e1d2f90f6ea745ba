"""A relay between a client and a server on this machine that keeps the bytes which pass, both ways."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CHUNK_BYTES = 1 << 16


@dataclass
class Wiretap:
    """What has passed, of all connections together, in the order of its passing."""

    url: str
    sent: bytearray = field(default_factory=bytearray)
    """By the client."""
    answered: bytearray = field(default_factory=bytearray)
    """By the server."""
    _passed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until_sent(self, part: bytes) -> None:
        """Wait until the client has sent these bytes; without a bound, so bring your own."""
        async with self._passed:
            await self._passed.wait_for(lambda: part in self.sent)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        """Pass on, and keep, what one side says until it is done."""
        with contextlib.suppress(ConnectionError):  # a side that hangs up is nothing that a relay has to report
            while chunk := await reader.read(_CHUNK_BYTES):
                kept += chunk
                writer.write(chunk)
                await writer.drain()
                async with self._passed:
                    self._passed.notify_all()
            writer.write_eof()


@contextlib.asynccontextmanager
async def tap(url: str) -> AsyncIterator[Wiretap]:
    """Open a relay to the server at this URL; its connections are cut when the context ends."""
    target = urlsplit(url)
    wiretap = Wiretap(url="")
    relays: set[asyncio.Task[None]] = set()

    async def relay(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(wiretap.pump(client_reader, server_writer, wiretap.sent))
                pumps.create_task(wiretap.pump(server_reader, client_writer, wiretap.answered))
        finally:
            client_writer.close()
            server_writer.close()

    def start_relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(relay(reader, writer))
        relays.add(task)
        task.add_done_callback(relays.discard)

    server = await asyncio.start_server(start_relay, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    wiretap.url = f"http://{host}:{port}"
    try:
        yield wiretap
    finally:
        server.close()
        open_relays = tuple(relays)
        for task in open_relays:
            task.cancel()
        await asyncio.gather(*open_relays, return_exceptions=True)
        await server.wait_closed()
