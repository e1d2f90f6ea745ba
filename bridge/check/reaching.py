"""The way to the service: its name, and a connection."""

import asyncio
import os
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from bridge.environment import proxy_for
from bridge.errors import TryAgainError

CONNECT_SECONDS = 5.0


class Place(NamedTuple):
    """What is connected to first: the endpoint, or the proxy before it."""

    host: str
    port: int
    setting: str
    """Where it is set."""


def first_place(endpoint: str) -> Place:
    """Where the way to the endpoint begins. Raises FixSettingsError for a proxy that doesn't speak HTTP."""
    proxy = proxy_for(endpoint)
    parts = urlsplit(proxy or endpoint)
    setting = f"{urlsplit(endpoint).scheme.upper()}_PROXY" if proxy else "BRIDGE_ROCKETMQ__ENDPOINT"
    return Place(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), setting)


async def resolve(endpoint: str) -> str:
    """Ask for the addresses of the name. Raises TryAgainError."""
    place = first_place(endpoint)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        why = getattr(problem, "strerror", None) or problem
        raise TryAgainError(f"the name {place.host} does not resolve ({why}); check {place.setting}") from problem
    addresses = ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))
    return f"{place.host} is an address" if addresses == place.host else f"{place.host} is {addresses}"


async def connect(endpoint: str) -> str:
    """Open a connection, and close it again. Raises TryAgainError."""
    place = first_place(endpoint)
    where = f"{place.host}:{place.port}"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(place.host, place.port)
    except OSError as problem:  # TimeoutError, too
        why = os.strerror(problem.errno) if problem.errno else str(problem) or f"no answer within {CONNECT_SECONDS:g} s"
        advice = f"check {place.setting}, and that firewall, security group and allowlist let this machine through"
        raise TryAgainError(f"no connection to {where}: {why}; {advice}") from problem
    writer.transport.abort()  # nothing was said
    return f"{where} accepts connections" + ("" if place.setting.startswith("BRIDGE") else ", as the proxy")
