"""A sink that blocks the event loop is noticed from outside it."""

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import structlog
from structlog.testing import LogCapture

from bridge.emulator.server import Emulator
from bridge.event import Event
from bridge.sinks import Outcome
from bridge.testing import MemorySink
from bridge.watch import event_loop
from outside.command import PATIENCE_SECONDS, TOPIC
from outside.test_health import running
from outside.waiting import until, until_seen


def ask(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - http, as the test says
            return response.status, response.read().decode()
    except HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()


class Sleeping(MemorySink):
    """Its send blocks the event loop, until somebody outside has seen enough."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = threading.Event()
        self.enough = threading.Event()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        self.blocks.set()
        self.enough.wait(PATIENCE_SECONDS)
        return await super().send(events, deadline)


async def test_a_sink_that_blocks_the_event_loop_fails_livez_and_the_log_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = LogCapture()
    monkeypatch.setattr(event_loop, "log", structlog.wrap_logger(None, processors=[lines]))
    monkeypatch.setattr(event_loop, "STUCK_SECONDS", 1.5)
    sink = Sleeping()
    seen: dict[str, tuple[int, str]] = {}

    async with Emulator() as emulator, running(emulator, tmp_path, sink=sink) as (service, probe):
        await until_seen(probe.ready)
        url = f"http://127.0.0.1:{service.port}"

        def watch() -> None:
            """What a kubelet sees while the event loop of the bridge, which is also this test's, stands still."""
            sink.blocks.wait(PATIENCE_SECONDS)
            end = time.monotonic() + PATIENCE_SECONDS
            seen["at first"] = ask(f"{url}/livez")
            while ask(f"{url}/livez")[0] == 200 and time.monotonic() < end:
                time.sleep(0.05)
            seen.update({path: ask(url + path) for path in ("/livez", "/readyz", "/healthz", "/metrics")})
            sink.enough.set()

        outside = threading.Thread(target=watch)
        outside.start()
        emulator.publish(TOPIC, "hello")
        await until(lambda: not outside.is_alive())
        await until_seen(probe.ready)  # a moment later, when it has been looked again
        assert await probe.get("/livez") == (200, "ok")
    assert seen["at first"] == (200, "ok\n")
    stuck = r"the event loop has not turned for 2 s; the log says where it is stuck"
    assert seen["/livez"] == seen["/readyz"] == (503, f"{stuck}\n")
    status, report = seen["/healthz"]
    assert (status, '"status": "failing"' in report, stuck in report) == (503, True, True)
    status, metrics = seen["/metrics"]
    assert re.search(r"^bridge_event_loop_stuck_seconds\{.*\} [12]\.", metrics, re.MULTILINE)
    first, last = lines.entries
    assert (first["log_level"], first["event"]) == ("error", "the event loop is stuck")
    assert re.search(rf"{re.escape(__file__)}:\d+ send < .*outlet\.py:\d+ _send", first["where"])
    assert last["event"] == "the event loop turns again"
