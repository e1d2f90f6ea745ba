"""A real Prometheus server, on loopback, that scrapes some pods."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from monitoring.promtool import RULES, program
from outside.waiting import until_seen
from server_process import free_port

SCRAPE_MILLISECONDS = 200


@dataclass(frozen=True)
class Prometheus:
    url: str
    session: aiohttp.ClientSession

    async def value(self, query: str) -> float | None:
        """Of the one series that a query finds; None when there is none. Raises AssertionError for more."""
        found = await self.get("query", query=query)
        assert len(found["result"]) <= 1
        return float(found["result"][0]["value"][1]) if found["result"] else None

    async def get(self, what: str, **params: str) -> Any:
        async with self.session.get(f"{self.url}/api/v1/{what}", params=params) as response:
            answer = await response.json()
            assert answer["status"] == "success", answer
            return answer["data"]

    async def ready(self) -> bool:
        try:
            async with self.session.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False


@asynccontextmanager
async def scraping(folder: Path, port: int, *, labels: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Scrape this port of this machine a few times a second, and evaluate the chart's rules as often."""
    interval = f"{SCRAPE_MILLISECONDS}ms"
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in RULES],
        "scrape_configs": [
            {"job_name": "bridge", "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": dict(labels)}]}
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.dump(config), encoding="utf-8")
    own_port = free_port()
    process = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            prometheus = Prometheus(f"http://127.0.0.1:{own_port}", session)
            await until_seen(prometheus.ready)
            yield prometheus
    finally:
        process.kill()
        await process.wait()
