"""Settings: what can be set, and what is in force.

Every setting is an environment variable `BRIDGE_…` with `__` between levels. The same names work as flags
(`--rocketmq.endpoint`), in a file `.env` of the working directory, and as files of a secrets folder (`BRIDGE_SECRETS_DIR`).
A flag wins over the environment, that over `.env`, that over a secret's file. An empty value is as good as none.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretBytes,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge import environment, sinks
from bridge.emulator.faults import Faults
from bridge.environment import PREFIX, Value, without_credentials
from bridge.errors import FixSettingsError
from bridge.rocketmq.codec import Subscription

Port = Annotated[int, Field(ge=0, le=65_535)]

Lease = Annotated[float, Field(gt=0, le=259_200)]
"""In seconds; no longer than the three days for which messages are kept (protocol.md 9)."""


class Section(BaseModel):
    """One level of the names. Fields are described for people: the descriptions are shown by `--help` and in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no path that this system could have
        return False


class Endpoint(Section):
    """Where the service is, and who we are to it: what publishing needs, and consuming too."""

    endpoint: str = Field(description="the instance's HTTP endpoint, http://<account>.mqrest.<region>.aliyuncs.com")
    topic: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="the topic: letters, digits, - and _, at most 64")
    instance_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,128}$",
        description="the instance, MQ_INST_…; not set for an instance without a namespace",
    )
    access_key_id: str | None = Field(
        default=None,
        pattern=r"^[!-~]+$",
        description="the access key's id; without a key, the Alibaba Cloud default credentials chain is asked (environment, "
        "OIDC role in a cluster, instance role), which needs the extra credentials",
    )
    access_key_secret: SecretStr | None = Field(default=None, validate_default=True, description="the access key's secret")
    security_token: SecretStr | None = Field(default=None, description="the token of a temporary access key (STS)")
    _key_files: dict[str, Path] = PrivateAttr(default_factory=dict)
    ca_file: Path | None = Field(
        default=None, description="a PEM file with the CA that the endpoint's certificate is checked against"
    )

    @field_validator("endpoint")
    @classmethod
    def _is_a_plain_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("should begin with http:// or https:// and name a host")
        if re.search(r"[?#@\\\s]", value) or parts.path.strip("/"):
            raise ValueError("should be scheme and host alone, without path, query or user")
        _ = parts.port  # raises ValueError when it is no port
        return value.rstrip("/")

    @field_validator("access_key_secret", "security_token")
    @classmethod
    def _is_one_line(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("should be one word of visible ASCII characters")
        return value

    @field_validator("access_key_secret")
    @classmethod
    def _makes_a_key(cls, value: SecretStr | None, info: Any) -> SecretStr | None:
        if "access_key_id" in info.data and (value is None) != (info.data["access_key_id"] is None):
            raise ValueError("BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET should both be set, or neither")
        return value

    @field_validator("security_token")
    @classmethod
    def _belongs_to_a_key(cls, value: SecretStr | None, info: Any) -> SecretStr | None:
        if value and info.data.get("access_key_secret", value) is None:
            raise ValueError("a token needs the key that it belongs to, BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET")
        return value

    @property
    def key_files(self) -> Mapping[str, Path]:
        """The files of the secrets folder that the access key came from, by the name of the field; empty for other sources."""
        return self._key_files

    def note_key_files(self, values: Mapping[str, Value]) -> None:
        """Learn from what was given, by variable name, which of the key's fields came from files."""
        for field in ("access_key_id", "access_key_secret", "security_token"):
            name = f"{PREFIX}ROCKETMQ__{field}".upper()
            path = Path(values[name].given_by) if name in values else Path()
            if path.name.upper() == name:
                self._key_files[field] = path

    @field_validator("ca_file")
    @classmethod
    def _is_a_file(cls, value: Path | None) -> Path | None:
        if value and not _is_file(value):
            raise ValueError("should be the path of a file")
        return value


class RocketMQ(Endpoint):
    """What is consumed, and how."""

    group_id: str = Field(
        pattern=r"^(GID|CID)[A-Za-z0-9_-]{0,61}$",
        description="the consumer group, created for HTTP: GID_… of letters, digits, - and _, at most 64",
    )
    ordered: bool = Field(default=False, description="consume in order, shard by shard (the topic must be an ordered one)")
    batch_size: int = Field(default=16, ge=1, le=16, description="how many messages a poll asks for at most, 1 to 16")
    wait_seconds: int = Field(
        default=30, ge=0, le=30, description="how long a poll waits for the first message, 0 to 30 seconds"
    )
    max_pollers: int = Field(default=8, ge=1, le=64, description="how many poll at most, each on a connection of its own")
    # the last field, as its check looks at the others
    tag: str | None = Field(default=None, description="only messages with this tag, or any of several: TagA||TagB")

    @field_validator("tag")
    @classmethod
    def _fits_the_request_line(cls, value: str | None, info: Any) -> str | None:
        others = {name: info.data.get(field) or "" for name, field in _SUBSCRIPTION.items()}
        try:
            Subscription(**others, tag=value, ordered=True)
        except FixSettingsError as problem:
            raise ValueError(str(problem)) from None
        return value


_SUBSCRIPTION = {"topic": "topic", "group": "group_id", "instance": "instance_id"}


class EventForm(Section):
    """How a message is written as an event."""

    envelope: Literal["cloudevents", "body", "eventbridge"] = Field(
        default="cloudevents",
        description="cloudevents; body, the body alone; or eventbridge, the shape that Alibaba Cloud EventBridge gives",
    )
    type: str = Field(default="com.aliyun.rocketmq.message", min_length=1, description="the CloudEvents type of every event")
    source: str | None = Field(default=None, description="the CloudEvents source; /rocketmq/<instance>/<topic> when not set")
    data: Literal["auto", "text", "base64"] = Field(
        default="auto",
        description="how a body is carried: auto (as JSON where it is a JSON object or array, else as text), text, base64",
    )
    strict_md5: bool = Field(default=False, description="treat a body whose MD5 differs as damage, and not only mark it")


class DeliveryRules(Section):
    """Bounds of the delivery."""

    lease_margin_seconds: float | None = Field(
        default=None, ge=0, description="how long before a lease's end to stop; a tenth of the lease, at most 10, when not set"
    )
    max_deliveries: int | None = Field(
        default=None,
        ge=1,
        description="an event that still fails when it has been delivered so often becomes a dead letter; never when not set",
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(16 * 1024 * 1024),
        ge=65_536,
        description="bytes of bodies held at once by all pollers; 16MiB and the like",
    )


class DeadLetter(Section):
    """Where dead letters go. The settings of that sink are another field, under its name."""

    sink: str | None = Field(
        default=None,
        description="where dead letters go: the name of an installed sink; what isn't set in BRIDGE_DEAD_LETTER__<NAME>__… is "
        "taken from BRIDGE_<NAME>__…, but for where it goes",
    )


class LedgerSettings(Section):
    """Where it is shared what was confirmed and not yet acked."""

    redis_url: SecretStr | None = Field(
        default=None,
        description="share what is confirmed and not yet acked with other replicas, and across restarts: a Redis, as redis://, "
        "rediss:// (TLS) or unix://; needs the extra redis",
    )

    @field_validator("redis_url")
    @classmethod
    def _is_the_url_of_a_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            _ = parts.port
        except ValueError:  # whose text may hold a piece of the password
            raise ValueError("should be a URL, with / # ? @ : in user name and password percent-encoded") from None
        if not (parts.path if parts.scheme == "unix" else parts.hostname and parts.scheme in ("redis", "rediss")):
            raise ValueError("should begin with redis:// or rediss:// and name a host, or with unix:// and name a socket")
        return value


class Management(Section):
    """The management API, asked beside the delivery: who is connected, and how far the group is behind."""

    enabled: bool = Field(
        default=False,
        description="ask the management API now and then who is connected and how far the group is behind; needs the extra "
        "management",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+$",
        description="the region whose management API is asked, as cn-hangzhou; that of the HTTP endpoint's name when not set",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^(https?://)?[A-Za-z0-9.:\[\]-]+/?$",
        description="its endpoint, ons.<region>.aliyuncs.com when not set; in a VPC, ons-vpc.<region>.aliyuncs.com",
    )
    interval_seconds: float = Field(
        default=60, ge=5, le=3600, description="how often it is asked, with two calls; the account has 10 calls a second"
    )
    required: bool = Field(default=False, description="let /healthz fail while it says that the group is offline")

    @field_validator("required")
    @classmethod
    def _is_asked(cls, value: bool, info: Any) -> bool:  # noqa: FBT001 - pydantic calls it so
        if value and not info.data.get("enabled", True):
            raise ValueError("needs BRIDGE_MANAGEMENT__ENABLED")
        return value


class Tracing(Section):
    """Whether messages' traces go on through the bridge; where spans go is said by OpenTelemetry's own variables."""

    enabled: bool = Field(
        default=False,
        description="continue the traces of messages (their property traceparent) to the sinks, and export spans by OTLP over "
        "HTTP, as OTEL_EXPORTER_OTLP_ENDPOINT and the other OTEL_… variables say; needs the extra otel",
    )


class Http(Section):
    """Where health is served."""

    host: str = Field(default="0.0.0.0", description="the address to serve health on")  # noqa: S104 - a container's probes come from outside
    port: Port = Field(default=8080, description="the port to serve health on; 0 for any free one")


class Log(Section):
    """Logs go to stderr; stdout belongs to the sink."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least urgent lines that are logged"
    )
    format: Literal["console", "json"] | None = Field(
        default=None, description="console, or json; console on a terminal when not set"
    )


class Shutdown(Section):
    """How the process ends."""

    grace_seconds: float = Field(default=45, ge=1, le=3600, description="the whole drain; longer than the longest poll")


class EmulatorFace(Section):
    """The local ApsaraMQ."""

    host: str = Field(default="127.0.0.1", description="the address the emulator listens on")
    port: Port = Field(default=8088, description="the port the emulator listens on; 0 for any free one")
    access_key_id: str = Field(default="AKID", description="the one access key it knows")
    access_key_secret: SecretStr = Field(default=SecretStr("SECRET"), description="and its secret")
    topics: str | None = Field(default=None, description="the topics that exist, with commas; any when not set")
    invisible_seconds: Lease = Field(default=300, description="the lease of a delivery, unordered")
    ordered_invisible_seconds: Lease = Field(default=60, description="the lease of a delivery, ordered")
    faults: Faults = Field(default_factory=Faults, description="what goes wrong on purpose")


class _Settings(BaseSettings):
    """The values come merged from `load`; pydantic-settings' own sources would hide where one came from."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class RunSettings(_Settings):
    """Of `bridge run` and `bridge demo`; the settings of each chosen sink are another field, under its name."""

    rocketmq: RocketMQ
    sink: str = Field(default="stdout", description="where events go: the name of an installed sink, or several with commas")
    dead_letter: DeadLetter
    event: EventForm
    delivery: DeliveryRules
    ledger: LedgerSettings
    management: Management
    tracing: Tracing
    http: Http
    log: Log
    shutdown: Shutdown

    @property
    def sinks(self) -> list[str]:
        """The names of the chosen sinks."""
        return _names(self.sink)

    def of_sink(self, name: str) -> BaseModel:
        """The settings of a chosen sink."""
        return _part(self, name)

    @property
    def of_dead_letters(self) -> BaseModel:
        """The settings of the sink of dead letters, where there is one."""
        return _part(self.dead_letter, self.dead_letter.sink or "")


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _part(whole: BaseModel, name: str) -> BaseModel:
    part = getattr(whole, name)
    assert isinstance(part, BaseModel)
    return part


class EmulatorSettings(_Settings):
    """Of `bridge emulator`, and of the emulator in `bridge demo`."""

    emulator: EmulatorFace
    log: Log


class PublishSettings(_Settings):
    """Of `bridge publish`."""

    rocketmq: Endpoint
    log: Log


S = TypeVar("S", bound=_Settings)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """Settings in force, and where each came from."""

    settings: S
    values: Mapping[str, Value]
    """What was given, by variable name."""


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
    values = environment.given(flags, is_boolean, mistakes, environ=environ, folder=folder)
    values = {**(defaults or {}), **values}
    chosen = _Chosen(values) if issubclass(model, RunSettings) else None
    full = chosen.model(model, mistakes) if chosen else model
    fields = dict(_leaves(full))
    mistakes += _misnamed(values, {**_everything_known(), **fields}, chosen)
    tree = _sections(full)
    inherited = {chosen.inherited(name): value for name, value in values.items()} if chosen else {}
    for name, value in {**inherited, **values}.items():
        if name in fields:
            _put(tree, name, value.text)
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
    return Loaded(settings, {name: value for name, value in values.items() if name in fields})


def _misnamed(values: Mapping[str, Value], known: Mapping[str, FieldInfo], chosen: "_Chosen | None") -> Iterator[str]:
    for name, value in sorted(values.items()):
        if name not in known and not _belongs_elsewhere(name, value, chosen):
            near = get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{name}, given by {value.given_by}, is no setting{hint}"
        elif value.bare and name in known and not _is_boolean(known[name]):
            yield f"{name}: {value.given_by} has no value; where that begins with --, give it as --name=value"


class _Chosen:
    """The sinks that were chosen: those of events, and perhaps that of dead letters."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.sinks = _names(values["BRIDGE_SINK"].text if "BRIDGE_SINK" in values else "stdout")
        self.letters = values["BRIDGE_DEAD_LETTER__SINK"].text.strip() if "BRIDGE_DEAD_LETTER__SINK" in values else None
        self._destination: tuple[str, ...] = ()

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


# ---- names -----------------------------------------------------------------------------------------------------------


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a level of names, perhaps optional; None for a field that is a value."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _leaves(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """Every variable that a model reads."""
    for name, about in model.model_fields.items():
        if section := _section(about):
            yield from _leaves(section, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), about


def settings_of(model: type[BaseModel], prefix: str = PREFIX) -> dict[str, FieldInfo]:
    """Every variable that a model reads, with what is said of it."""
    return dict(_leaves(model, prefix))


def _everything_known() -> dict[str, FieldInfo]:
    """What any command reads: a variable that another command reads is no mistake."""
    return {name: field for model in (RunSettings, EmulatorSettings, PublishSettings) for name, field in _leaves(model)}


def _belongs_elsewhere(name: str, value: Value, chosen: _Chosen | None) -> bool:
    """Whether a variable that isn't known is no mistake for all that."""
    section, levels, rest = name.removeprefix(PREFIX).partition("__")
    if section == "DEAD_LETTER" and chosen is None:  # this command has no dead letters
        section = rest.partition("__")[0]
    if levels:  # of a sink that isn't chosen
        return not (chosen and section.lower() in chosen.sinks) and section.lower() in sinks.installed()
    # A Kubernetes Service that is named `bridge` injects BRIDGE_PORT and the like: without two underscores it isn't ours.
    return not value.given_by.startswith("the flag")


def _sections(model: type[BaseModel]) -> dict[str, Any]:
    """An empty level for each that a model has, so that what is missing is named one by one."""
    sections = {name: _section(about) for name, about in model.model_fields.items()}
    return {name: _sections(section) for name, section in sections.items() if section}


def _put(tree: dict[str, Any], name: str, text: str) -> None:
    *levels, last = name.removeprefix(PREFIX).lower().split("__")
    for level in levels:
        tree = tree.setdefault(level, {})
    tree[last] = text


# ---- what is said of them --------------------------------------------------------------------------------------------


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


def _is_boolean(field: FieldInfo) -> bool:
    return bool in (field.annotation, *get_args(field.annotation))


def _explain(error: ErrorDetails, fields: Mapping[str, FieldInfo], values: Mapping[str, Value]) -> str:
    name = PREFIX + "__".join(str(level) for level in error["loc"]).upper()
    field = fields.get(name)
    about = f" ({field.description})" if field and field.description else ""
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


def is_boolean(name: str) -> bool | None:
    """Whether the setting of that name is a boolean; None for a name that no command reads."""
    field = _everything_known().get(name)
    return None if field is None else _is_boolean(field)
