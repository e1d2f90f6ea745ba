from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats_server import STREAM, SUBJECT, NatsServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server whose stream takes the subject."""
    server = NatsServer(tmp_path)
    await server.start()
    async with server.jetstream() as stream:
        await stream.add_stream(name=STREAM, subjects=[SUBJECT])
    yield server
    await server.kill()
