"""How much is logged: nothing while all is well, little in an outage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from bridge.watch import facts

TESTS = Path(__file__).resolve().parents[1]


def test_ten_healthy_minutes_log_nothing_and_an_outage_of_ten_fewer_than_15_lines_that_end_with_how_long_it_lasted() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "watch.twenty_minutes"], cwd=TESTS.parent, env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    healthy, down, over = ([line["event"] for line in lines].index(mark) for mark in ("healthy", "down", "over"))
    assert lines[over]["acked"] > 1500
    assert {line["event"] for line in lines[:healthy]} == {"connected"}
    assert lines[healthy + 1 : down] == []
    outage = lines[down + 1 : over]
    assert 2 <= len(outage) < 15
    assert outage[0]["event"] == "failing"
    assert outage[-1]["after_seconds"] == pytest.approx(600, abs=60)
    assert lines[over + 1 :] == []


def test_an_outage_is_logged_though_the_wall_clock_was_set_back_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "log", logged := CapturingLogger())
    wall, now = [1_700_000_000.0], [0.0]
    component = facts.Component("sink", wall_clock=lambda: wall[0], monotonic=lambda: now[0])
    component.fails("gone")
    component.works()
    wall[0] -= 6 * 3600
    now[0] += 3600
    component.fails("gone again")
    now[0] += 90
    component.works()
    said = [(call.args[0], call.kwargs.get("after_seconds")) for call in logged.calls]
    assert said == [("failing", None), ("recovered", 0.0), ("failing", None), ("recovered", 90.0)]
