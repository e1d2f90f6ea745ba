"""Settings in force: what was given, where each came from, and every mistake in it at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge import environment, sinks
from bridge.environment import PREFIX, Value, without_credentials
from bridge.errors import FixSettingsError
from bridge.settings import CommandSettings, DeadLetter, EmulatorSettings, PublishSettings, RunSettings, sink_names
from bridge.variables import is_boolean, is_secret, levels_of, put, settings_of

S = TypeVar("S", bound=CommandSettings)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """Settings in force, and where each came from."""

    settings: S
    values: Mapping[str, Value]
    """What was given, by variable name, and what was taken over from such."""


DEMO_DEFAULTS: Mapping[str, Value] = {
    name: Value(text, "the demo")
    for name, text in {
        "BRIDGE_EMULATOR__PORT": "0",
        "BRIDGE_HTTP__HOST": "127.0.0.1",
        "BRIDGE_HTTP__PORT": "0",
        "BRIDGE_LOG__LEVEL": "error",  # its end leaves nothing to anybody: the broker ends with it
        "BRIDGE_MANAGEMENT__ENABLED": str(find_spec("alibabacloud_ons20190214") is not None),
        "BRIDGE_MANAGEMENT__INTERVAL_SECONDS": "5",
    }.items()
}
"""What is in force in the demo when nobody says otherwise."""


def load(
    model: type[S],
    flags: Sequence[str] = (),
    *,
    defaults: Mapping[str, Value] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Loaded[S]:
    """The settings in force; `defaults`, by variable name, stand in for what nobody has given.

    Raises FixSettingsError that names every mistake at once, one a line, and no secret.
    """
    mistakes: list[str] = []
    values = environment.given(flags, boolean_or_not, mistakes, environ=environ, folder=folder)
    values = {**(defaults or {}), **values}
    chosen = _Chosen(values) if issubclass(model, RunSettings) else None
    full = chosen.model(model, mistakes) if chosen else model
    fields = settings_of(full)
    known = _everything_known() | fields | (chosen.taken_from if chosen else {})
    mistakes += _misnamed(values, known, chosen)
    tree = levels_of(full)
    inherited = {chosen.inherited(name): value.as_that_of(name) for name, value in values.items()} if chosen else {}
    in_force = {name: value for name, value in {**inherited, **values}.items() if name in fields}
    for name, value in in_force.items():
        put(tree, name, value.text)
    settings: S | None = None
    try:
        settings = full(**tree)
    except ValidationError as problem:
        mistakes += [_explain(error, fields, values) for error in problem.errors(include_url=False)]
    if isinstance(settings, RunSettings) and chosen:
        mistakes += chosen.contradictions(settings)
    if mistakes or settings is None:
        raise FixSettingsError("\n".join(mistakes))
    if isinstance(settings, RunSettings | PublishSettings):
        settings.rocketmq.note_key_files(values)
    return Loaded(settings, in_force)


def _misnamed(values: Mapping[str, Value], known: Mapping[str, FieldInfo], chosen: "_Chosen | None") -> Iterator[str]:
    for name, value in sorted(values.items()):
        if name not in known and not _belongs_elsewhere(name, value, chosen):
            near = get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{name}, given by {value.given_by}, is no setting{hint}"
        elif value.bare and name in known and not is_boolean(known[name]):
            yield f"{name}: {value.given_by} has no value; where that begins with --, give it as --name=value"


class _Chosen:
    """The sinks that were chosen: those of events, and perhaps that of dead letters."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.sinks = sink_names(values["BRIDGE_SINK"].text if "BRIDGE_SINK" in values else "stdout")
        self.letters = values["BRIDGE_DEAD_LETTER__SINK"].text.strip() if "BRIDGE_DEAD_LETTER__SINK" in values else None
        self._destination: tuple[str, ...] = ()
        self.taken_from: dict[str, FieldInfo] = {}
        """What the sink of dead letters would read as a sink of events: settings that it may take over."""

    def model(self, model: type[S], mistakes: list[str]) -> type[S]:
        """The model with the settings of the chosen sinks; a name that no sink has becomes a mistake."""
        parts: dict[str, Any] = {}
        for name in self.sinks:
            if name in model.model_fields:
                mistakes.append(f"BRIDGE_SINK: a sink can't be called {name!r}: the bridge itself has settings of that name")
            elif sink := _find("BRIDGE_SINK", name, mistakes):
                parts[name] = sink.Settings
        if not self.sinks:
            mistakes.append("BRIDGE_SINK names no sink")
        if self.letters and (sink := _find("BRIDGE_DEAD_LETTER__SINK", self.letters, mistakes)):
            self._destination = sink.destination
            self.taken_from = settings_of(sink.Settings, f"{PREFIX}{self.letters.upper()}__")
            parts["dead_letter"] = _extended(DeadLetter, {self.letters: sink.Settings})
        return _extended(model, parts)

    def inherited(self, name: str) -> str:
        """What a setting of a sink is called as one of the dead letters' sink that takes it over; empty when it doesn't."""
        prefix = f"{PREFIX}{(self.letters or '').upper()}__"
        setting = name.removeprefix(prefix)
        taken_over = self.letters and name.startswith(prefix) and setting.lower() not in self._destination
        return f"{PREFIX}DEAD_LETTER__{self.letters.upper()}__{setting}" if self.letters and taken_over else ""

    def contradictions(self, settings: RunSettings) -> Iterator[str]:
        """What is wrong with the settings together, though each is right by itself."""
        if settings.delivery.max_deliveries is not None and self.letters is None:
            yield "BRIDGE_DELIVERY__MAX_DELIVERIES needs BRIDGE_DEAD_LETTER__SINK: what has been delivered so often goes there"
        if self.letters in self.sinks:
            here, there = settings.of_sink(self.letters or ""), settings.of_dead_letters
            if all(getattr(here, setting) == getattr(there, setting) for setting in self._destination):
                where = " and ".join(f"{PREFIX}DEAD_LETTER__{self.letters}__{name}".upper() for name in self._destination)
                yield f"{where or 'BRIDGE_DEAD_LETTER__SINK'}: dead letters must go elsewhere than events"


def _find(variable: str, name: str, mistakes: list[str]) -> type[sinks.Sink] | None:
    try:
        return sinks.find(name)
    except FixSettingsError as problem:
        mistakes.append(f"{variable}: {problem}")
        return None


def _extended(model: type[M], parts: Mapping[str, type[BaseModel]]) -> type[M]:
    """The same model with further levels."""
    if not parts:
        return model
    extended = type(model.__name__, (model,), {"__annotations__": dict(parts), "__module__": __name__})
    assert issubclass(extended, model)
    return extended


def _everything_known() -> dict[str, FieldInfo]:
    """What any command reads: a variable that another command reads is no mistake."""
    return settings_of(RunSettings) | settings_of(EmulatorSettings) | settings_of(PublishSettings)


def _belongs_elsewhere(name: str, value: Value, chosen: _Chosen | None) -> bool:
    """Whether a variable that isn't known is no mistake for all that."""
    section, levels, rest = name.removeprefix(PREFIX).partition("__")
    if section == "DEAD_LETTER" and chosen is None:  # this command has no dead letters
        section = rest.partition("__")[0]
    if levels:  # of a sink that isn't chosen
        return not (chosen and section.lower() in (*chosen.sinks, chosen.letters)) and section.lower() in sinks.installed()
    # A Kubernetes Service that is named `bridge` injects BRIDGE_PORT and the like: without two underscores it isn't ours.
    return not value.given_by.startswith("the flag")


def _explain(error: ErrorDetails, fields: Mapping[str, FieldInfo], values: Mapping[str, Value]) -> str:
    name = PREFIX + "__".join(str(level) for level in error["loc"]).upper()
    field = fields.get(name)
    about = f" ({in_one_line(field)})" if field and field.description else ""
    if error["type"] == "missing":
        return f"{name} is not set, and is required{about}"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if error["type"] == "string_pattern_mismatch":
        message = "is not of the right form"
    value = values.get(name) or values.get(name.replace("DEAD_LETTER__", "", 1))  # from which it may have been taken
    if value is None:
        return f"{name}: {message}{about}"
    shown = "what is given" if field is None or is_secret(field) else repr(without_credentials(value.text))
    return f"{name}: {shown}, given by {value.given_by}: {message}{about}"


def in_one_line(field: FieldInfo) -> str:
    """What a setting means, as it is shown to people."""
    return " ".join((field.description or "").split())


def boolean_or_not(name: str) -> bool | None:
    """Whether the setting of that name is a boolean; None for a name that no command reads."""
    field = _everything_known().get(name)
    return None if field is None else is_boolean(field)
