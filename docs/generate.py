"""Writes the tables of docs/ from the code: `make reference`."""

from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bridge import sinks
from bridge.settings import PREFIX, EmulatorSettings, RunSettings, is_secret, settings_of

SETTINGS = Path(__file__).parent / "settings.md"

_INTRODUCTION = """\
# Settings

Every setting is an environment variable. The same names work

- as flags: `BRIDGE_ROCKETMQ__TOPIC` is `--rocketmq.topic`;
- in a file `.env` of the working directory;
- as files of a secrets folder, each named like the variable and holding its value (`BRIDGE_SECRETS_DIR`, by default
  `/run/secrets`).

A flag wins over the environment, that over `.env`, that over a secret's file. An empty value is as good as none. A name with
`__` that isn't among these is a mistake, and is reported with the nearest that is. `bridge config` shows what is in force, and
where each value came from. `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are honoured.

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
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {_default(field)} | {_meaning(field)} |" for name, field in fields.items()]
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return ""
    return "(secret)" if is_secret(field) else f"`{field.default}`"


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    SETTINGS.write_text(settings(), encoding="utf-8")
