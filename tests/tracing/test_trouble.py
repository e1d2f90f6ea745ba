"""Tracing that goes wrong is told, and changes no delivery (design.md, promise 9)."""

import asyncio
import json
import logging
import sys
from pathlib import Path

import pytest

from bridge.emulator.server import Emulator
from bridge.errors import FixSettingsError, MissingExtraError
from bridge.testing import MemorySink
from bridge.watch.facts import Component, Status
from bridge.watch.otlp import Otlp
from outside.command import TOPIC, finished, said, settings_for, started
from outside.waiting import until
from tracing.collector import Collector
from tracing.running import acked, tracing

GRACE_SECONDS = 4.0


def process_settings(emulator: Emulator) -> dict[str, str]:
    return {
        **settings_for(emulator),
        "BRIDGE_TRACING__ENABLED": "true",
        "BRIDGE_LOG__FORMAT": "json",
    }


async def test_messages_flow_while_spans_are_refused_and_that_is_logged_once(
    emulator: Emulator, collector: Collector, tmp_path: Path
) -> None:
    collector.status = 404
    emulator.publish(TOPIC, "the first")
    async with started("run", folder=tmp_path, settings=process_settings(emulator)) as process:
        line = json.loads(await said(process, '"failing"'))
        assert (line["component"], "404" in line["error"]) == ("tracing", True)
        for number in range(3):
            requests = collector.requests
            emulator.publish(TOPIC, f"message {number}")
            await collector.until(lambda requests=requests: collector.requests > requests)  # type: ignore[misc] # a loop's lambda
        await until(lambda: acked(emulator) == 4)
        end = await finished(process, stop=True)
    assert (end.code, len(end.out.splitlines())) == (0, 4)
    assert "failing" not in end.err
    assert "spans" not in end.err


async def test_a_collector_that_never_answers_holds_up_no_exit(
    emulator: Emulator, collector: Collector, tmp_path: Path
) -> None:
    collector.open.clear()
    emulator.publish(TOPIC, "a message")
    settings = {**process_settings(emulator), "BRIDGE_SHUTDOWN__GRACE_SECONDS": str(GRACE_SECONDS)}
    async with started("run", folder=tmp_path, settings=settings) as process:
        await until(lambda: acked(emulator) == 1 and collector.requests > 0)
        begun = asyncio.get_running_loop().time()
        end = await finished(process, stop=True)
        took = asyncio.get_running_loop().time() - begun
    assert end.code == 0
    assert took < GRACE_SECONDS + 2  # for the interpreter; the exporter itself would wait for 10
    assert "spans could not be exported in time" in end.err


@pytest.mark.parametrize("broken", ["Tracing.begin", "_headers", "_end"])
async def test_a_bug_in_tracing_keeps_no_message_from_its_sink(
    emulator: Emulator, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(f"bridge.watch.tracing.{broken}", fails)
    sink = MemorySink()
    message_id = emulator.publish(TOPIC, "a message").message_id
    async with tracing(emulator, tmp_path, sinks={"stdout": sink}) as service:
        await until(lambda: acked(emulator) == 1)
        assert service.facts.tracing
        assert service.facts.tracing.last_error == "KeyError: 'a bug'"
    assert sink.sent == [message_id]


async def test_a_variable_that_makes_no_sense_is_a_mistake_in_the_settings(
    emulator: Emulator, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(FixSettingsError, match=r"OTEL_.*max_queue_size"):
        async with tracing(emulator, tmp_path, sinks={"stdout": MemorySink()}):
            pass


async def test_without_the_extra_its_name_is_told(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("bridge.watch.tracing", "bridge.watch.otlp"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(MissingExtraError, match=r"rocketmq-bridge\[otel\]"):
        async with tracing(emulator, tmp_path, sinks={"stdout": MemorySink()}):
            pass


async def test_what_is_told_of_a_failure_holds_no_credentials(collector: Collector) -> None:
    component = Component("tracing")
    otlp = Otlp(component)
    logger = logging.getLogger("opentelemetry.exporter.somewhere")
    logger.error("no answer from %s", "http://user:password@collector/v1/traces?key=secret (refused)")
    await asyncio.sleep(0)
    assert component.status is Status.FAILING
    assert component.last_error == "no answer from http://…collector/v1/traces?… (refused)"
    await otlp.close(1)
    logger.error("of another's exporter")
    await asyncio.sleep(0)
    assert component.error_count == 1
