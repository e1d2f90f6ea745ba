"""Writes the tables of docs/ from the code: `make reference`."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from bridge import sinks
from bridge.environment import PREFIX
from bridge.settings import EmulatorSettings, RunSettings
from bridge.variables import is_secret, settings_of
from bridge.watch.event_loop import STUCK_SECONDS
from bridge.watch.metrics import METRICS
from bridge.watch.report import Report

_INTRODUCTION = """\
# Settings

Every setting is an environment variable. The same names work

- as flags: `BRIDGE_ROCKETMQ__TOPIC` is `--rocketmq.topic`;
- in a file `.env` of the working directory;
- as files of a secrets folder, each named like the variable and holding its value (`BRIDGE_SECRETS_DIR`, by default
  `/run/secrets`).

A flag wins over the environment, that over `.env`, that over a secret's file. An empty value is as good as none. A name with
`__` that isn't among these is a mistake, and is reported with the nearest that is; a sink's are looked at when it is used.
`bridge config` shows what is in force, and where each value came from. `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are honoured.

This page is made from the code.
"""


def settings() -> str:
    """The text of docs/settings.md."""
    parts = [_INTRODUCTION, _table("The bridge", RunSettings)]
    for name in sinks.installed():
        about = settings_of(sinks.find(name).Settings, f"{PREFIX}{name.upper()}__")
        parts.append(f"## The sink `{name}`\n\n{_rows(about) if about else 'There is nothing to set.'}\n")
    parts.append(_table("The emulator", EmulatorSettings))
    return "\n".join(parts)


def _table(title: str, model: type[BaseModel]) -> str:
    return f"## {title}\n\n{_rows(settings_of(model))}\n"


def _rows(fields: dict[str, FieldInfo]) -> str:
    rows = ((f"`{name}`", _default(field), _meaning(field)) for name, field in fields.items())
    return _lines(("variable", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return ""
    return "(secret)" if is_secret(field) else f"`{field.default}`"


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


# ---- metrics ---------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """The text of docs/metrics.md."""
    rows = ((f"`{m.name}`", m.kind.value, f"`{m.label}`" if m.label else "", m.help.replace("|", "\\|")) for m in METRICS)
    return f"{_ABOUT_METRICS}\n{_lines(('metric', 'type', 'label', 'meaning'), rows)}\n"


_ABOUT_METRICS = """\
# Metrics

`/metrics` gives them in Prometheus' text format, or as OpenMetrics where the `Accept` header asks for it. Every metric has the
labels `topic` and `group`; no label ever holds an id. Units are seconds and bytes. Counters begin at 0 with the process. A
scrape calls nobody: it reads what the bridge has noted on its way, from a thread of its own, also while the bridge is stuck.

What to look at first: `bridge_ready` and `bridge_component_up`, how it is; `bridge_backlog_messages` (with the management API)
or `bridge_end_to_end_latency_seconds`, whether it keeps up; `bridge_ack_slack_seconds`, how far it is from delivering twice;
`bridge_dead_letters_total` and `bridge_messages_left_total`, what needs a person.

Besides these there are the Prometheus client's `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`
and so on, by the names that they have for any process.

This page is made from the code.
"""

# ---- health ----------------------------------------------------------------------------------------------------------

_REPORT = TypeAdapter(Report).json_schema()
_MODELS = _REPORT["$defs"]


def health_schema() -> str:
    """The text of docs/health.schema.json."""
    schema = TypeAdapter(Report).json_schema()
    for model in (schema, *schema["$defs"].values()):
        model.pop("additionalProperties", None)  # fields may come, so whoever reads the report passes over what it doesn't know
    return (
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2, ensure_ascii=False) + "\n"
    )


def health() -> str:
    """The text of docs/health.md."""
    parts = [_ABOUT_HEALTH, _fields(_REPORT)]
    for name, model in _MODELS.items():
        if "properties" in model:
            parts.append(f"### {_title(name)}\n\n{model['description']}\n\n{_fields(model)}")
    return "\n".join(parts)


_ABOUT_HEALTH = f"""\
# Health

Served over HTTP at `BRIDGE_HTTP__HOST` and `__PORT`, by a thread of its own. A probe calls nobody: it reads what the bridge has
noted on its way, which takes about a tenth of a millisecond, so probe as often as you like.

| path | 200 | 503 |
|---|---|---|
| `/livez` | the event loop turns | it has not turned for {STUCK_SECONDS:g} s, and the log says where it is stuck: restart it |
| `/readyz` | polls succeed, and every sink is usable | starting, draining, or either is lost; the \
answer says which, and it mends itself |
| `/healthz` | the last finished poll succeeded | it failed, or none has finished; or the event loop is stuck; or, with \
`BRIDGE_MANAGEMENT__REQUIRED`, the service says that the consumer group is offline |

The first two answer with one line of text. `/healthz` answers with the whole report as JSON, whatever its status, as
[health.schema.json](health.schema.json) has it. Fields may be added; none goes away or changes its meaning. Instants are
RFC 3339, in UTC, to the second; counts are since the start.

This page is made from the code.

## The report
"""


def _title(model: str) -> str:
    return model.removesuffix("Report")


def _fields(model: Mapping[str, Any]) -> str:
    rows = ((f"`{name}`", _kind(field), _description(field)) for name, field in model["properties"].items())
    return _lines(("field", "type", "meaning"), rows) + "\n"


def _description(field: Mapping[str, Any]) -> str:
    # pydantic leaves it out where it is that of the model, too
    text = field["description"] if "description" in field else _model(field)["description"]
    return " ".join(text.split()).replace("|", "\\|")


def _model(field: Mapping[str, Any]) -> Mapping[str, Any]:
    model: Mapping[str, Any] = _MODELS[field["$ref"].rpartition("/")[2]]
    return model


def _kind(field: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in field:
        return " or ".join(map(_kind, field["anyOf"]))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        model = _model(field)
        title = _title(model["title"])
        return _kind(model) if "enum" in model else f"[{title}](#{title.lower()})"
    if field["type"] == "array":
        return f"array of {_kind(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"object of {_kind(field['additionalProperties'])}"
    return str(field["type"])


def _lines(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings,
    "metrics.md": metrics,
    "health.md": health,
    "health.schema.json": health_schema,
}
"""What is written, by its name in docs/."""

if __name__ == "__main__":
    for page, text in PAGES.items():
        (Path(__file__).parent / page).write_text(text(), encoding="utf-8")
