"""What KEDA reads, by the triggers that the chart renders, is what can be delivered now."""

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.emulator.server import Emulator
from bridge.errors import SinkDownError
from bridge.loading import load
from bridge.service import Service
from bridge.settings import RunSettings
from bridge.sinks import Sink
from bridge.testing import MemorySink
from helm.chart import NAMESPACE, Manifest, example, manifests, merged, one
from helm.container import Container, keys_of
from outside.command import PATIENCE_SECONDS
from outside.waiting import until_seen

PUBLISHED = 40


class Series:
    """What one pod's /metrics says."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, selector: str) -> float:
        """Of the one series that is selected; `namespace` is a label that Prometheus gives it, and no label of its own."""
        named = re.fullmatch(r"(\w+)\{(.*)\}", selector)
        assert named
        labels = dict(re.findall(r'(\w+)="([^"]*)"', named[2]))
        assert labels.pop("namespace", NAMESPACE) == NAMESPACE
        (sample,) = [each for each in self._samples if each.name == named[1] and labels.items() <= each.labels.items()]
        return sample.value


def _asks_prometheus(scaled: Manifest, series: Series) -> float:
    (trigger,) = scaled["spec"]["triggers"]
    product = re.fullmatch(r"max\((\w+\{.*?\}) \* (\w+\{.*?\})\)", trigger["metadata"]["query"])
    assert product
    return series.value(product[1]) * series.value(product[2])


def _asks_the_pods(scaled: Manifest, series: Series) -> float:
    assert scaled["spec"]["advanced"]["scalingModifiers"]["formula"] == "backlog * ready"
    values = {trigger["name"]: series.value(trigger["metadata"]["valueLocation"]) for trigger in scaled["spec"]["triggers"]}
    return values["backlog"] * values["ready"]


@pytest.mark.parametrize(("scaler", "read"), [("prometheus", _asks_prometheus), ("metrics-api", _asks_the_pods)])
async def test_keda_reads_the_backlog_that_can_be_delivered(
    emulator: Emulator, tmp_path: Path, scaler: str, read: Callable[[Manifest, Series], float]
) -> None:
    sink = MemorySink()
    sink.hold.clear()
    found = manifests(merged(example("keda"), _here(emulator), {"autoscaling": {"keda": {"scaler": scaler}}}))
    service = _service(found, tmp_path, sink)
    scaled = one(found, "ScaledObject")

    async with aiohttp.ClientSession() as session:

        async def series() -> Series:
            async with session.get(f"http://127.0.0.1:{service.port}/metrics") as response:
                return Series(await response.text())

        async def reads(value: float) -> bool:
            try:
                return bool(read(scaled, await series()) == value)
            except ValueError:  # the backlog isn't known yet: there is no such series
                return False

        for number in range(PUBLISHED):
            emulator.publish("orders", f"{number}", instance=INSTANCE)
        running = asyncio.create_task(service.run())
        try:
            await until_seen(lambda: _up(service))
            await until_seen(lambda: reads(PUBLISHED))
            sink.hold.set()
            await until_seen(lambda: reads(0))

            sink.trouble = SinkDownError("no brokers")
            for number in range(PUBLISHED):
                emulator.publish("orders", f"{number}", instance=INSTANCE)

            async def is_known_and_no_work() -> bool:
                backlog = (await series()).value('bridge_backlog_messages{topic="orders"}')
                return backlog == PUBLISHED and await reads(0)

            await until_seen(is_known_and_no_work)
        finally:
            service.interrupt()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await running


INSTANCE = example("keda")["rocketmq"]["instanceId"]


def _here(emulator: Emulator) -> Mapping[str, Any]:
    return {"rocketmq": {"endpoint": emulator.url}, "management": {"endpoint": emulator.url}, "http": {"host": "127.0.0.1"}}


def _service(found: list[Manifest], folder: Path, sink: Sink) -> Service:
    container = Container(one(found, "Deployment")["spec"]["template"]["spec"], found)
    environ = container.environment(folder, {"bridge-keys": keys_of("AKID", "SECRET")})
    settings = load(RunSettings, environ={**environ, "BRIDGE_HTTP__PORT": "0"}, folder=folder).settings
    # oftener than can be set, so that nobody waits
    management = settings.management.model_copy(update={"interval_seconds": 0.2})
    return Service(settings.model_copy(update={"management": management}), sinks={"kafka": sink})


async def _up(service: Service) -> bool:
    return service.port is not None
