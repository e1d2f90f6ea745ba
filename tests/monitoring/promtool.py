"""promtool, of the Prometheus project: what it says of rules, and which alerts they fire over a recording."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from helm.chart import CHART
from missing import skip_without
from monitoring.recording import Recorded
from monitoring.states import State

RULES = sorted((CHART / "rules").rglob("*.yaml"))
PAGES = Path(__file__).with_name("pages.yaml")
"""What whoever is paged reads at the end of each state, in promtool's words."""
_TIMEOUT_SECONDS = 60


def program(name: str) -> str:
    """Where a program of Debian's package prometheus lies. Skips the test where it isn't installed, but not in CI."""
    found = shutil.which(name)
    if found is None:
        skip_without(f"{name} isn't installed: apt-get install prometheus")
    return found


def check(*rules: Path) -> None:
    """Raises AssertionError with what promtool prints when it isn't content."""
    finished = _run("check", "rules", *map(str, rules))
    assert finished.returncode == 0, finished.stdout + finished.stderr


def fires(folder: Path, state: State) -> None:
    """Before the trouble nothing fires; at its end the state's alerts do, in the words of `PAGES`; in the end none does, and no
    other ever has. Raises AssertionError with what promtool prints.
    """
    recorded = Recorded.load(state.name)
    firing = 'ALERTS{alertstate="firing"}'
    expected = [
        _expect(recorded.trouble - 1, firing, frozenset()),
        _expect(recorded.mended - 1, firing, state.fires),
        _expect(recorded.minutes - 1, firing, frozenset()),
        _expect(recorded.minutes - 1, f"last_over_time({firing}[{recorded.minutes}m])", state.fires),
    ]
    pages = yaml.load(PAGES.read_bytes(), Loader=yaml.CSafeLoader)[state.name]
    finished = _test(folder, recorded, promql_expr_test=expected, alert_rule_test=_pages(recorded, pages))
    assert finished.returncode == 0, finished.stdout + finished.stderr


def _expect(minute: int, alerts: str, fires: frozenset[str]) -> dict[str, Any]:
    return {
        "expr": f"group by (alertname) ({alerts})",
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(fires)],
    }


def _pages(recorded: Recorded, pages: Mapping[str, Any]) -> list[dict[str, Any]]:
    eval_time = f"{recorded.mended - 1}m"
    return [{"alertname": alert, "eval_time": eval_time, "exp_alerts": alerts} for alert, alerts in pages.items()]


def pages(folder: Path, state: State) -> dict[str, Any]:
    """What whoever is paged reads, by alert: promtool tells it when it is told to expect nothing."""
    recorded = Recorded.load(state.name)
    found: dict[str, Any] = {alert: [] for alert in sorted(state.fires)}
    said = _test(folder, recorded, alert_rule_test=_pages(recorded, found))
    for labels, annotations in re.findall(r"Labels:\{(.*)\}\s+Annotations:\{(.*)\}", said.stdout + said.stderr):
        exp_labels, exp_annotations = _pairs(labels), _pairs(annotations)
        found[exp_labels.pop("alertname")].append({"exp_labels": exp_labels, "exp_annotations": exp_annotations})
    return found


def _pairs(text: str) -> dict[str, str]:
    return {name: json.loads(quoted) for name, quoted in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*")', text)}


def _test(folder: Path, recorded: Recorded, **expected: Any) -> "subprocess.CompletedProcess[str]":
    test = {"interval": "1m", "input_series": recorded.input_series, **expected}
    tests = {"rule_files": [str(rules) for rules in RULES], "evaluation_interval": "1m", "tests": [test]}
    path = folder / "alerts.yaml"
    path.write_text(yaml.dump(tests, Dumper=yaml.CSafeDumper), encoding="utf-8")
    return _run("test", "rules", str(path))


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [program("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
