"""What goes wrong below the API: connections that are cut, and answers that don't arrive as they should."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

_CHUNK = b"x" * 65536


async def never() -> None:
    """Wait until the client has gone or the server closes; either cancels the handler."""
    await asyncio.get_running_loop().create_future()


async def cut(request: web.BaseRequest) -> None:
    """Reset the connection; doesn't return."""
    if request.transport is not None:
        request.transport.abort()
    await never()


async def trickle(
    request: web.BaseRequest, status: int, headers: Mapping[str, str], body: bytes, *, pause: float
) -> web.StreamResponse:
    """Answer byte by byte, with `pause` seconds after each."""
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    for byte in body:
        await response.write(bytes([byte]))
        await asyncio.sleep(pause)
    return response


async def stream_endlessly(
    request: web.BaseRequest, status: int, headers: Mapping[str, str], beginning: bytes
) -> web.StreamResponse:
    """Answer without an end, as fast as the client reads, until it hangs up."""
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    await response.write(beginning)
    while True:
        await response.write(_CHUNK)
