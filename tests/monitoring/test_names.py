"""What the alerts, the dashboard, the runbook and KEDA's query name is what a bridge shows today."""

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.testing import MemorySink
from bridge.watch.metrics import METRICS
from monitoring.pods import pods
from monitoring.promql import DASHBOARDS, RUNBOOK, expressions, named, rules
from monitoring.recording import Recorded, target
from monitoring.states import STATES
from outside.command import TOPIC
from outside.waiting import until_seen

FROM_PROMETHEUS = {*target("a"), "cluster"}
"""Labels that a series has from Prometheus: from the target, or from those who gather several clusters."""
CONFIGURED = {"topic", "group"}
"""Labels whose values are settings."""

Series = dict[str, list[dict[str, str]]]
"""The labels of each, by the name of its samples."""


def _series(text: str) -> Series:
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


async def _shown_by_a_bridge(folder: Path) -> Series:
    """One that has everything on, and a message in hand."""
    sink = MemorySink()
    sink.hold.clear()
    settings = {
        "BRIDGE_DEAD_LETTER__SINK": "webhook",
        "BRIDGE_DEAD_LETTER__WEBHOOK__URL": "http://127.0.0.1:9/",
        "BRIDGE_LEDGER__REDIS_URL": "redis://127.0.0.1:9/0",
    }
    series: Series = {}
    async with (
        pods(folder, lease_seconds=300, minute_seconds=0.2) as running,
        running.pod(sink=sink, settings=settings) as service,
    ):
        expire_at = time.time() + 3600
        service.facts.credentials_expire_at = lambda: expire_at
        running.emulator.publish(TOPIC, "hello")

        async def everything() -> bool:
            series.update(_series(await running.scrape() or ""))
            return {"bridge_shortest_lease_seconds", "bridge_consumer_connections", "bridge_backlog_messages"} <= series.keys()

        await until_seen(everything)
    return series


async def test_every_expression_names_metrics_labels_and_values_that_a_bridge_shows(tmp_path: Path) -> None:
    shown = await _shown_by_a_bridge(tmp_path)
    assert {name for metric in METRICS if (name := metric.name) not in shown and f"{name}_bucket" not in shown} == set()
    labels = {label for series in shown.values() for each in series for label in each} | FROM_PROMETHEUS
    strange = [
        f"{where}: {what}"
        for where, expression in expressions()
        for what in (*_strange_names(expression, shown, labels), *_strange_matchers(expression, shown))
    ]
    assert strange == []
    _assert_recorded_alike(shown)


def _strange_names(expression: str, shown: Series, labels: set[str]) -> Iterable[str]:
    found = named(expression)
    return (found.metrics - shown.keys()) | (found.labels - labels)


def _strange_matchers(expression: str, shown: Series) -> Iterable[str]:
    """Of a regular expression each alternative has to match something; what Grafana puts in may be anything."""
    for metric, matcher in named(expression).matchers:
        if matcher.name in FROM_PROMETHEUS | CONFIGURED:
            continue
        values = {series.get(matcher.name, "") for series in shown.get(metric, ())}
        is_pattern = matcher.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe)
        for wanted in matcher.value.split("|") if is_pattern else [matcher.value]:
            if not any(re.fullmatch(wanted, value) if is_pattern else wanted == value for value in values):
                yield f"{metric}{{{matcher.name}={wanted}}}"


def _assert_recorded_alike(shown: Series) -> None:
    """Whatever was recorded is there today, with the same labels, and what alerts look at was recorded."""
    recorded: dict[str, set[str]] = {}
    for state in STATES:
        for each in Recorded.load(state.name).input_series:
            name, _, labels = each["series"].partition("{")
            recorded.setdefault(name, set()).add(",".join(re.findall(r'(\w+)="', labels)))
    today = {name: {",".join(sorted({*labels, *target("a")})) for labels in series} for name, series in shown.items()}
    assert {name: labels for name, labels in recorded.items() if labels != today.get(name)} == {}
    assert {metric for rule in rules() for metric in named(rule["expr"]).metrics} <= recorded.keys()


def test_what_alerts_and_legends_say_they_take_from_labels_that_there_are() -> None:
    said = [text for rule in rules() for text in rule["annotations"].values()]
    said += [
        target["legendFormat"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_bytes())["panels"]
        for target in panel.get("targets", ())
    ]
    labels = set(re.findall(r"\$labels\.(\w+)|\{\{(\w+)\}\}", "\n".join(said)))
    known = {metric.label for metric in METRICS} | {"topic", "group", "le"} | FROM_PROMETHEUS
    assert {name for pair in labels for name in pair if name} <= known


@pytest.mark.parametrize("rule", rules(), ids=[rule["alert"] for rule in rules()])
def test_an_alert_links_to_its_section_of_the_runbook_which_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    _, section = RUNBOOK.read_text(encoding="utf-8").split(f"\n## {rule['alert']}\n")
    section = section.partition("\n## ")[0]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{str(rule['alert']).lower()}"
    positions = [section.index(f"**{part}") for part in ("What it means.", "How to look.", "What to do", "What not to do.")]
    assert positions == sorted(positions)
    assert rule["labels"]["severity"] in ("critical", "warning")
