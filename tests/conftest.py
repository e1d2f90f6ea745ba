"""What holds for every test."""

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["secrecy.plugin", "scheduling"]

# A stall of the machine is no finding. CI has a profile of Hypothesis's own, which says so too.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("unhurried")


@pytest.fixture
def invalid_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that end in .invalid don't resolve, at once: what resolvers do with them isn't ours to test."""
    resolve = asyncio.BaseEventLoop.getaddrinfo

    async def unless_invalid(loop: asyncio.BaseEventLoop, host: Any, *more: Any, **named: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")
        return await resolve(loop, host, *more, **named)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", unless_invalid)


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the usual variables names one."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
