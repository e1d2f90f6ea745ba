"""How a service of the bench lives: it prints the port that it got, and serves until its stdin ends."""

import asyncio
import sys
from collections.abc import Callable


async def serve(protocol: Callable[[], asyncio.Protocol]) -> None:
    """Serve a protocol on a free port of this machine."""
    await until_stdin_ends(await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0))


async def until_stdin_ends(server: asyncio.Server) -> None:
    """Say where it listens, and let it."""
    sys.stdout.write(f"{port_of(server)}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


def port_of(server: asyncio.Server) -> int:
    """Where it listens."""
    return int(server.sockets[0].getsockname()[1])
