import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.wires import Mood, Wire


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """To a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server, Wire() as wire:
        wire.target = server.sockets[0].getsockname()[1]
        yield wire


async def test_it_passes_on_everything_and_the_end(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(b"x" * 1_000_000)
    writer.write_eof()
    assert await reader.read() == b"x" * 1_000_000
    writer.close()


async def test_what_it_stalls_arrives_when_it_flows_again(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    wire.behave(Mood.STALLS)
    writer.write(b"late")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(4), 0.1)
    wire.behave(Mood.FLOWS)
    assert await asyncio.wait_for(reader.read(4), 5) == b"late"
    writer.close()


async def test_a_trickle_comes_in_small_pieces(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    wire.behave(Mood.TRICKLES)
    writer.write(b"x" * 1000)
    assert len(await reader.read(1000)) < 1000
    writer.close()


async def test_cut_it_resets_both_sides_and_takes_new_connections(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    wire.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(b"after")
    assert await reader.readexactly(5) == b"after"
    writer.close()


async def test_it_refuses_new_connections_and_leaves_the_open_ones(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(b"1")
    assert await reader.read(1) == b"1"
    wire.behave(Mood.REFUSES)
    refused, other = await asyncio.open_connection("127.0.0.1", wire.port)
    with pytest.raises(ConnectionResetError):
        await refused.read(1)
    other.close()
    writer.write(b"2")
    assert await reader.read(1) == b"2"
    writer.close()
