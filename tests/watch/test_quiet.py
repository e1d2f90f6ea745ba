"""How much is logged: nothing while all is well, little in an outage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
