"""Probes as a kubelet calls them: at once, then once a period, and so often until it has an answer for certain."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp


class Probe:
    """One probe of a container; `ports` are its ports by name."""

    def __init__(self, spec: Mapping[str, Any], ports: Mapping[str, int]) -> None:
        get = spec["httpGet"]
        self._url = f"http://127.0.0.1:{ports.get(get['port'], get['port'])}{get['path']}"
        self._timeout = aiohttp.ClientTimeout(total=spec["timeoutSeconds"])
        self._period: float = spec["periodSeconds"]
        self._failures: int = spec["failureThreshold"]

    async def passes(self) -> bool:
        """One call: any status from 200 to 399 is a success."""
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session, session.get(self._url) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def holds(self) -> bool:
        """Whether the kubelet would let the container be: it passes before it has failed too often in a row."""
        for _ in range(self._failures):
            if await self.passes():
                return True
            await asyncio.sleep(self._period)
        return False
