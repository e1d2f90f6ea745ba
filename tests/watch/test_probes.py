"""Probes are right under load, and cheap."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridge.emulator.server import Emulator
from bridge.testing import MemorySink
from bridge.watch.face import Face
from bridge.watch.facts import Facts, Phase
from outside.command import GROUP, TOPIC
from outside.test_health import Probe, running
from outside.waiting import until, until_seen


async def test_probed_200_times_a_second_under_load_every_report_is_true(tmp_path: Path) -> None:
    """Of what flows, no more was acked than confirmed, and no more confirmed than received."""
    flowing = True

    async def publish(emulator: Emulator) -> int:
        number = 0
        while flowing:
            for _ in range(32):
                emulator.publish(TOPIC, f"{number}")
                number += 1
            await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).backlog < 200)
        return number

    async with Emulator() as emulator, running(emulator, tmp_path, sink=MemorySink()) as (_, probe):
        await until_seen(probe.ready)
        publishing = asyncio.create_task(publish(emulator))
        reports: list[Any] = []
        begun = time.monotonic()
        while len(reports) < 600:
            due = min(round((time.monotonic() - begun) * 200) - len(reports), 20)  # a busy machine may be behind
            for status, report in await asyncio.gather(*(probe.health() for _ in range(due))):
                assert (status, report["status"]) == (200, "ok")
                reports.append(report["messages"])
            await asyncio.sleep(0.005)
        flowing = False
        published = await publishing
        await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == published)

        async def all_acked() -> bool:
            return bool((await probe.health())[1]["messages"]["acked"] == published)

        await until_seen(all_acked)
    assert all(messages["acked"] <= messages["confirmed"] <= messages["received"] for messages in reports)
    assert reports[0]["received"] < reports[-1]["received"], "it was under load"


@pytest.mark.parametrize(("path", "most"), [("/livez", 2.0), ("/readyz", 2.0), ("/healthz", 3.2)])
async def test_a_probe_is_cheap(path: str, most: float) -> None:
    """In processor time of the thread that answers, on a connection that is kept, beside that of a page of two letters.

    So a slow machine is no finding, nor is a busy one, as the least of several rounds counts. `most` is twice what is usual.
    """
    facts = Facts(["kafka", "webhook"], dead_letters=True, shared_ledger=True)
    facts.phase = Phase.RUNNING
    for component in facts.components:
        component.works()
    others = set(threading.enumerate())  # that of a test before this one may be about to end
    page = {"/yardstick": lambda _: web.Response(text="ok")}
    async with Face(facts, host="127.0.0.1", port=0, labels={}, page=page) as face, aiohttp.ClientSession() as session:
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "health" and thread not in others]
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        probe = Probe(session, face.port)

        async def cost(asked: str) -> float:
            before = time.clock_gettime(clock)
            for _ in range(100):
                assert (await probe.get(asked))[0] == 200
            return time.clock_gettime(clock) - before

        rounds = [(await cost("/yardstick"), await cost(path)) for _ in range(10)]
    yardstick, probes = map(min, zip(*rounds, strict=True))
    assert probes <= most * yardstick
