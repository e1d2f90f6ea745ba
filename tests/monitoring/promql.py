"""Every PromQL expression that is shipped, and what it names, as a parser reads it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import promql_parser
import yaml

from helm.chart import CHART, HELM, example, manifests, one
from monitoring.promtool import RULES

DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
RUNBOOK = HELM.parent / "docs" / "runbook.md"

_GRAFANA = {"$__rate_interval": "5m", "$__range": "1h", "$budget": "100"}
"""What Grafana puts in place of its variables, where PromQL has no string."""


@dataclass
class Named:
    """What an expression names."""

    metrics: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    matchers: list[tuple[str, promql_parser.Matcher]] = field(default_factory=list)
    """Each with its metric."""


def rules() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_bytes())["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Each with where it stands."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_bytes())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}, {panel['title']}", target["expr"]
    for expression in re.findall(r"```promql\n(.*?)```", RUNBOOK.read_text(encoding="utf-8"), re.DOTALL):
        yield RUNBOOK.name, expression.strip()
    (trigger,) = one(manifests(example("keda")), "ScaledObject")["spec"]["triggers"]
    yield "ScaledObject", trigger["metadata"]["query"]


def named(expression: str) -> Named:
    """Raises ValueError when it isn't PromQL."""
    for variable, text in _GRAFANA.items():
        expression = expression.replace(variable, text)
    found = Named()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name
            found.metrics.add(node.name)
            found.matchers += [(node.name, matcher) for matcher in node.matchers.matchers]
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.labels.update(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            found.labels.update(node.modifier.matching.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found
