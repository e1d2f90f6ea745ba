"""Settings by the names of their variables: which there are, and how those in force may be shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from bridge.environment import PREFIX, without_credentials


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a level of names, perhaps optional; None for a field that is a value."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def settings_of(model: type[BaseModel], prefix: str = PREFIX) -> dict[str, FieldInfo]:
    """Every variable that a model reads, with what is said of it."""
    variables: dict[str, FieldInfo] = {}
    for name, about in model.model_fields.items():
        if section := _section(about):
            variables |= settings_of(section, f"{prefix}{name.upper()}__")
        else:
            variables[prefix + name.upper()] = about
    return variables


def levels_of(model: type[BaseModel]) -> dict[str, Any]:
    """An empty level for each that a model has, so that what is missing is named one by one."""
    sections = {name: _section(about) for name, about in model.model_fields.items()}
    return {name: levels_of(section) for name, section in sections.items() if section}


def put(tree: dict[str, Any], name: str, text: str) -> None:
    """Put the value of a variable where it belongs among the levels."""
    *levels, last = name.removeprefix(PREFIX).lower().split("__")
    for level in levels:
        tree = tree.setdefault(level, {})
    tree[last] = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A setting in force, as it may be shown to anybody."""

    name: str
    value: str
    """Empty when it is not set; a secret is hidden."""
    default: bool
    """Whether it is as it would be if nobody had set it."""


def shown(settings: BaseModel) -> Iterator[Shown]:
    """Every setting in force, in the order in which they are documented."""
    for name, field in settings_of(type(settings)).items():
        value: Any = settings
        for level in name.removeprefix(PREFIX).lower().split("__"):
            value = getattr(value, level)
        if value is None:
            text = ""
        else:
            text = "********" if is_secret(field) or isinstance(value, SecretStr) else without_credentials(str(value))
        yield Shown(name=name, value=text, default=bool(value == field.default))


def is_secret(field: FieldInfo) -> bool:
    """Whether the value of a setting is never shown: it is a secret, or holds one."""
    return _holds_a_secret(field.annotation)


def _holds_a_secret(annotation: Any) -> bool:
    return annotation in (SecretStr, SecretBytes) or any(_holds_a_secret(part) for part in get_args(annotation))


def is_boolean(field: FieldInfo) -> bool:
    """Whether a setting is on or off, so that a flag of its name alone means on."""
    return bool in (field.annotation, *get_args(field.annotation))
