import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.emulator.server import Emulator
from outside import plugin
from outside.command import GROUP, PATIENCE_SECONDS, TOPIC, Finished, finished, said, settings_for, started
from outside.waiting import until, until_seen
from server_process import free_port


def logged(result: Finished) -> list[dict[str, Any]]:
    """The log, in which every line is JSON and says what, how urgent, and when."""
    lines = [json.loads(line) for line in result.err.splitlines()]
    for line in lines:
        assert {"event", "level", "timestamp"} <= line.keys(), line
    return lines


def acked(emulator: Emulator) -> int:
    return emulator.broker.book(emulator.now(), TOPIC, GROUP).acked


async def test_two_hundred_messages_log_nothing_but_the_start_and_the_end(emulator: Emulator, tmp_path: Path) -> None:
    for number in range(200):
        emulator.publish(TOPIC, f"body {number}")
    async with started("run", folder=tmp_path, settings=settings_for(emulator)) as process:
        await until(lambda: acked(emulator) == 200)
        result = await finished(process, stop=True)
    assert (result.code, len(result.out.splitlines())) == (0, 200)
    lines = logged(result)
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "started"), *[("info", "connected")] * 3, ("info", "drained")
    ]  # fmt: skip
    assert {line["component"] for line in lines[1:-1]} == {"rocketmq", "rocketmq acks", "sink stdout"}
    assert lines[0].items() >= {"endpoint": emulator.url, "topic": TOPIC, "group": GROUP, "sink": "stdout"}.items()
    assert lines[-1]["acked"] == 200


async def test_above_info_a_healthy_run_says_nothing(emulator: Emulator, tmp_path: Path) -> None:
    emulator.publish(TOPIC, "hello")
    async with started("run", "--log.level=warning", folder=tmp_path, settings=settings_for(emulator)) as process:
        await until(lambda: acked(emulator) == 1)
        result = await finished(process, stop=True)
    assert (result.code, result.err) == (0, "")


async def test_an_outage_of_the_broker_is_logged_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    async with (
        Emulator(port=free_port()) as emulator,
        started("run", folder=tmp_path, settings=settings_for(emulator)) as process,
    ):
        port = json.loads(await said(process, "started"))["health_port"]
        await said(process, "rocketmq")
        async with aiohttp.ClientSession() as session:

            async def failed(polls: int) -> bool:
                async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                    polled = (await response.json())["polling"]["polls"]
                    return int(polled.get("error", 0) + polled.get("cut", 0)) >= polls

            await emulator.close()
            await until_seen(lambda: failed(3))
            await emulator.start()
            emulator.publish(TOPIC, "hello")
            await until(lambda: acked(emulator) == 1)
        result = await finished(process, stop=True)
    lines = logged(result)
    assert [line["event"] for line in lines if line.get("component") == "rocketmq"] == ["failing", "recovered"]
    assert [line["event"] for line in lines if line["level"] != "info"] == ["failing", "recovered"]
    assert lines[[line["event"] for line in lines].index("recovered")]["errors"] >= 3


async def test_rubbish_at_the_health_port_is_no_trouble_of_the_bridge(emulator: Emulator, tmp_path: Path) -> None:
    async with started("run", folder=tmp_path, settings=settings_for(emulator)) as process:
        port = json.loads(await said(process, "started"))["health_port"]
        for rubbish in (
            b"\x16\x03\x01\0\xa5\1\0\0\xa1\3\3",
            b"GET / HTTP/9.9",
            b"GET /\xff\0 HTTP/1.1",
            b"GET / HTTP/1.1\r\n\xff",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(rubbish + b"\r\n\r\n")
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert (await reader.readline()).startswith(b"HTTP/1.0 400 ")
            writer.close()
            await writer.wait_closed()
        result = await finished(process, stop=True)
    assert {line["event"] for line in logged(result)} == {"connected", "drained"}


THEIR_SINK = '''
import logging
from pydantic import BaseModel
from bridge.sinks import Sink

class NoSettings(BaseModel):
    """There is nothing to set."""

class TheSink(Sink):
    Settings = NoSettings
    async def send(self, events, deadline):
        password = "S3CRET"
        logging.getLogger("their.library").info("not shown")
        logging.getLogger("their.library").warning("about to fail: %s", "soon")
        try:
            {}["nothing"]
        except KeyError as cause:
            raise ValueError("a mistake in the sink") from cause
'''


@pytest.mark.parametrize("form", ["json", "console"])
async def test_what_libraries_log_and_tracebacks_come_in_the_same_form_without_local_variables(
    emulator: Emulator, tmp_path: Path, form: str
) -> None:
    site = plugin.install(tmp_path / "site", name="broken", code=THEIR_SINK)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {**settings_for(emulator), "PYTHONPATH": path, "BRIDGE_SINK": "broken", "BRIDGE_LOG__FORMAT": form}
    emulator.publish(TOPIC, "the body of a message")
    async with started("run", folder=tmp_path, settings=settings) as process:
        first = await said(process, "about to fail")
        second = await said(process, "the sink broke its contract")
        if form == "console":
            second += await said(process, "a mistake in the sink")
        result = await finished(process, stop=True)
    assert result.code == 0
    said_so = first + second + result.err
    assert "S3CRET" not in said_so.replace('password = "S3CRET"', "")  # that line of the source may be shown
    assert "the body of a message" not in said_so
    assert "not shown" not in said_so.replace('info("not shown")', "")
    if form == "json":
        library, failure = json.loads(first), json.loads(second)
        assert (library["event"], library["level"]) == ("about to fail: soon", "warning")
        assert [error["exc_type"] for error in failure["exception"]] == ["ValueError", "KeyError"]
    else:
        assert "[warning  ] about to fail: soon" in first


def test_a_level_above_that_of_a_warning_holds_for_what_libraries_log_too() -> None:
    code = """
import logging
from bridge.watch import logs
logs.configure(level="error", form="json")
library = logging.getLogger("their.library")
library.warning("about to fail")
library.error("it has failed")
logs.flush(1.0)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert "it has failed" in said.stderr
    assert "about to fail" not in said.stderr
