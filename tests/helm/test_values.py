"""The values are the bridge's settings, all of them and none besides, and everything is documented."""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import helm_python
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bridge import sinks
from bridge.environment import PREFIX
from bridge.loading import load
from bridge.settings import RunSettings
from bridge.variables import is_secret, settings_of
from helm.chart import CHART, EXAMPLES, HELM, defaults, example, manifests, merged, one
from helm.container import Container, keys_of
from helm.variants import MINIMAL

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", HELM / "reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = _reference()
MEANINGS = {".".join(key.path): key.meaning for key in REFERENCE.documented()}


def test_the_readme_is_what_the_comments_say() -> None:
    """If it isn't: `python helm/reference.py`."""
    assert REFERENCE.README.read_text(encoding="utf-8") == REFERENCE.readme()


# ---- the bridge's settings -------------------------------------------------------------------------------------------


def _settings() -> dict[str, FieldInfo]:
    """Every setting of `bridge run` that is no secret, by the path of its value."""
    fields = dict(settings_of(RunSettings))
    for name in ("kafka", "webhook"):
        fields |= settings_of(sinks.find(name).Settings, f"{PREFIX}{name.upper()}__")
    return {_path(name): field for name, field in fields.items() if not is_secret(field) and name not in _AMONG_SECRETS}


_AMONG_SECRETS = ("BRIDGE_ROCKETMQ__ACCESS_KEY_ID",)


def _path(name: str) -> str:
    levels = name.removeprefix(PREFIX).lower().split("__")
    return ".".join(re.sub(r"_(.)", lambda after: after[1].upper(), level) for level in levels)


SETTINGS = _settings()
SECTIONS = {path.partition(".")[0] for path in SETTINGS} | {"ledger"}
RECKONED_WITH = {"rocketmq.waitSeconds", "rocketmq.maxPollers", "http.port", "shutdown.graceSeconds"}
"""What the chart itself needs to know; all else is left to the bridge when it isn't set."""

NOT_IN_A_POD = {"http.port": "; 0 for any free one"}
"""What a setting's description says and the chart doesn't offer: probes and the Service have to know the port."""


def test_every_setting_is_a_value_and_nothing_else_is() -> None:
    values = {path for path in MEANINGS if path.partition(".")[0] in SECTIONS}
    # A Redis without a password is no secret; dead letters have all the settings of a sink.
    assert values == SETTINGS.keys() | {"ledger.redisUrl", "deadLetter.kafka", "deadLetter.webhook"}


@pytest.mark.parametrize("path", SETTINGS)
def test_a_value_means_what_the_setting_says(path: str) -> None:
    field = SETTINGS[path]
    meaning = " ".join((field.description or "").split())
    if path in NOT_IN_A_POD:
        before, meaningless, after = meaning.partition(NOT_IN_A_POD[path])
        assert meaningless
        meaning = before + after
    if MEANINGS[path].startswith("the name of a sink"):
        return  # the chart asks for it: what goes to stdout only ends in a log
    assert MEANINGS[path].startswith(meaning)
    assert MEANINGS[path].removeprefix(meaning).strip() == _default(field)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    if field.default is None:
        return ""
    whole = isinstance(field.default, float) and field.default.is_integer()
    default = int(field.default) if whole else field.default
    return f"[{default}]" if isinstance(default, str) else f"[{json.dumps(default)}]"


@pytest.mark.parametrize("path", SETTINGS)
def test_a_setting_is_left_to_the_bridge_unless_the_chart_reckons_with_it(path: str) -> None:
    value: Any = defaults()
    for key in path.split("."):
        value = value[key]
    assert value == (SETTINGS[path].default if path in RECKONED_WITH else None)


@pytest.mark.parametrize("path", [path for path in SETTINGS if path not in ("sink", "deadLetter.sink", "http.port")])
def test_the_schema_bounds_a_value_as_the_bridge_does(path: str) -> None:
    """The port is another matter: a pod's user may not listen below 1024."""
    section, key = path.split(".")
    ours = _resolved(SCHEMA["properties"][section])["properties"][key]
    theirs = _model_of(section).model_json_schema()["properties"][_name(key)]
    for bound in ("enum", "minimum", "maximum", "exclusiveMinimum", "minLength", "pattern"):
        if "ge" in theirs and bound == "minimum":
            continue  # of bytes, which may be text with a unit that only the bridge can read
        expected = [kind[bound] for kind in (theirs, *theirs.get("anyOf", ())) if bound in kind]
        allowed = ours.get(bound)
        if isinstance(allowed, list):
            allowed = [choice for choice in allowed if choice is not None]
        assert ([] if allowed is None else [allowed]) == expected, bound


def _model_of(section: str) -> type[BaseModel]:
    if section in ("kafka", "webhook"):
        return sinks.find(section).Settings
    annotation = RunSettings.model_fields[_name(section)].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


def _name(key: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key)


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return SCHEMA["$defs"][reference.rpartition("/")[2]] if reference else schema


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_bridge_takes_the_settings_of_an_example(name: str, tmp_path: Path) -> None:
    """And those of `helm test` are the same."""
    found = manifests(example(name))
    deployed = Container(one(found, "Deployment")["spec"]["template"]["spec"], found)
    checked = Container(one(found, "Pod")["spec"], found)
    assert (deployed.args, checked.args) == (["run"], ["check"])
    assert deployed.env == checked.env
    secrets = {"bridge-keys": keys_of("AKID", "SECRET"), **_SECRETS_OF.get(name, {})}
    settings = load(RunSettings, environ=deployed.environment(tmp_path, secrets), folder=tmp_path).settings
    assert settings.rocketmq.topic == example(name)["rocketmq"]["topic"]
    assert settings.sink == example(name)["sink"]


_SECRETS_OF: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "kafka-sasl-ssl": {
        "bridge-kafka-user": {"password": "PASSWORD", "sasl.jaas.config": "…"},
        "events-cluster-ca-cert": {"ca.crt": "CERTIFICATE"},
    },
    "webhook-signed": {"bridge-keys": {**keys_of("AKID", "SECRET"), "BRIDGE_WEBHOOK__SIGNING_SECRET": "whsec_c2VjcmV0IQ=="}},
}


# ---- typos -----------------------------------------------------------------------------------------------------------


def _objects(schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    schema = _resolved(schema)
    if "properties" in schema:
        yield path
        for key, inner in schema["properties"].items():
            yield from _objects(inner, (*path, key))


@pytest.mark.parametrize("path", list(_objects(SCHEMA)), ids=".".join)
def test_a_typo_is_refused_with_its_name(path: tuple[str, ...]) -> None:
    values: Any = {"tpyo": 1}
    for key in reversed(path):
        values = {key: values}
    with pytest.raises(helm_python.HelmValuesError) as refused:
        manifests(merged(MINIMAL, values))
    assert f"at '{''.join(f'/{key}' for key in path)}': additional properties 'tpyo' not allowed" in str(refused.value)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"extraSecrets": [{"nmae": "keys"}]}, "'nmae' not allowed"),
        ({"extraEnv": [{"name": "A", "vlaue": "b"}]}, "'vlaue' not allowed"),
        ({"secret": {"BRIDGE_KAFKA_SASL_PASSWORD": "one underscore"}}, "'BRIDGE_KAFKA_SASL_PASSWORD' not allowed"),
        ({"networkPolicy": {"cilium": {"egress": [{"nmae": "kafka", "ports": [1]}]}}}, "'nmae' not allowed"),
        ({"deadLetter": {"kafka": {"tpoic": "letters"}}}, "'tpoic' not allowed"),
        ({"rocketmq": {"groupId": "bridge"}}, "/rocketmq/groupId"),
        ({"rocketmq": {"maxPollers": 65}}, "/rocketmq/maxPollers"),
        ({"http": {"port": 0}}, "/http/port"),
        ({"autoscaling": {"minReplicas": 0}}, "/autoscaling/minReplicas"),
        ({"strategy": {"maxSurge": "25%"}}, "/strategy/maxSurge"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"ledger": {"redisUrl": "redis://:password@redis:6379"}}, "/ledger/redisUrl"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=re.escape(complaint)):
        manifests(merged(MINIMAL, values))
