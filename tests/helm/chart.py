"""The chart, rendered by real Helm."""

import atexit
import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import helm_python
import yaml
from kubernetes_validate import utils as kubernetes_schemas

HELM = Path(__file__).resolve().parents[2] / "helm"
CHART = HELM / "rocketmq-bridge"
EXAMPLES = {path.stem: path for path in sorted((HELM / "examples").glob("*.yaml"))}

RELEASE, NAMESPACE = "orders", "prod"
OLDEST, NEWEST = kubernetes_schemas.all_versions()[0], kubernetes_schemas.latest_version()

Values = Mapping[str, Any]
Manifest = dict[str, Any]


def defaults() -> dict[str, Any]:
    return _loaded(CHART / "values.yaml")


def example(name: str) -> dict[str, Any]:
    return _loaded(EXAMPLES[name])


def _loaded(path: Path) -> dict[str, Any]:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def merged(*layers: Values) -> dict[str, Any]:
    """As Helm merges several files of values: maps by their keys, and all else by the last."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else deepcopy(value)
    return result


def at(path: Sequence[str], value: Any) -> dict[str, Any]:
    """Values with this one alone."""
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def files(values: Values, *, chart: Path = CHART) -> Mapping[str, str]:
    """What each template renders, by its path below the templates. Raises HelmError for values that are refused."""
    return _files(json.dumps(values), chart)


@cache
def _files(values: str, chart: Path) -> Mapping[str, str]:
    with helm_python.Chart.load(chart) as loaded:
        rendered = loaded.render(json.loads(values), name=RELEASE, namespace=NAMESPACE)
    return {path.removeprefix(f"{CHART.name}/templates/"): text for path, text in rendered.items() if text.strip()}


def manifests(values: Values, *, kubernetes: str = NEWEST, chart: Path = CHART) -> list[Manifest]:
    """Everything that an install would create, `helm test`'s pod among it, on a cluster of that version."""
    return deepcopy(_manifests(json.dumps(values), _for_kubernetes(kubernetes) if chart == CHART else chart))


@cache
def _manifests(values: str, chart: Path) -> list[Manifest]:
    texts = [text for path, text in _files(values, chart).items() if path != "NOTES.txt"]
    return [manifest for text in texts for manifest in yaml.load_all(text, Loader=yaml.CSafeLoader) if manifest]


_COPIES = TemporaryDirectory(prefix="chart-")
atexit.register(_COPIES.cleanup)


@cache
def _for_kubernetes(version: str) -> Path:
    """The library can't be told of a cluster's version, so in a copy of the chart the templates are."""
    copy = Path(_COPIES.name) / version / CHART.name
    shutil.copytree(CHART, copy)
    for template in (copy / "templates").rglob("*.yaml"):
        text = template.read_text(encoding="utf-8")
        template.write_text(text.replace(".Capabilities.KubeVersion.Version", f'"v{version}"'), encoding="utf-8")
    return copy


def one(found: Sequence[Manifest], kind: str) -> Manifest:
    (manifest,) = [manifest for manifest in found if manifest["kind"] == kind]
    return manifest


def pods(found: Sequence[Manifest]) -> list[Manifest]:
    """The specifications of pods: the bridge's, and that of `helm test`."""
    return [one(found, "Deployment")["spec"]["template"]["spec"], one(found, "Pod")["spec"]]
