"""Settings: the only reader of the environment.

Every setting is an environment variable `BRIDGE_…` with `__` between levels. The same names work as flags
(`--rocketmq.endpoint`), in a file `.env` of the working directory, and as files of a secrets folder (`BRIDGE_SECRETS_DIR`).
A flag wins over the environment, that over `.env`, that over a secret's file. An empty value is as good as none.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dotenv import dotenv_values
from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretBytes, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge import sinks
from bridge.emulator.faults import Faults
from bridge.errors import FixSettingsError
from bridge.rocketmq.codec import Subscription

PREFIX = "BRIDGE_"
SECRETS_DIR = "BRIDGE_SECRETS_DIR"
DEFAULT_SECRETS_DIR = Path("/run/secrets")
_MAX_SECRET_BYTES = 65_536

Port = Annotated[int, Field(ge=0, le=65_535)]

Lease = Annotated[float, Field(gt=0, le=259_200)]
"""In seconds; no longer than the three days for which messages are kept (protocol.md 9)."""


class Section(BaseModel):
    """One level of the names. Fields are described for people: the descriptions are shown by `--help` and in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Endpoint(Section):
    """Where the service is, and who we are to it: what publishing needs, and consuming too."""

    endpoint: str = Field(description="the instance's HTTP endpoint, http://<account>.mqrest.<region>.aliyuncs.com")
    topic: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="the topic: letters, digits, - and _, at most 64")
    instance_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,128}$",
        description="the instance, MQ_INST_…; not set for an instance without a namespace",
    )
    access_key_id: str = Field(pattern=r"^[!-~]+$", description="the access key's id")
    access_key_secret: SecretStr = Field(description="the access key's secret")
    security_token: SecretStr | None = Field(default=None, description="the token of a temporary access key (STS)")
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

    @field_validator("ca_file")
    @classmethod
    def _is_a_file(cls, value: Path | None) -> Path | None:
        if value and not os.path.isfile(value):  # noqa: PTH113 - Path.is_file raises for a name that is too long
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
    max_bytes: ByteSize = Field(
        default=ByteSize(16 * 1024 * 1024),
        ge=65_536,
        description="bytes of bodies held at once by all pollers; 16MiB and the like",
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
    sink: str = Field(default="stdout", description="where events go: the name of an installed sink")
    event: EventForm
    delivery: DeliveryRules
    http: Http
    log: Log
    shutdown: Shutdown

    def of_sink(self, name: str) -> BaseModel:
        """The settings of a chosen sink."""
        section = getattr(self, name)
        assert isinstance(section, BaseModel)
        return section


class EmulatorSettings(_Settings):
    """Of `bridge emulator`, and of the emulator in `bridge demo`."""

    emulator: EmulatorFace
    log: Log


class PublishSettings(_Settings):
    """Of `bridge publish`."""

    rocketmq: Endpoint
    log: Log


S = TypeVar("S", bound=_Settings)


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as somebody gave it."""

    text: str = field(repr=False)  # it may be a secret
    given_by: str
    """`the flag --rocketmq.topic`, `the environment`, `.env`, a file's path, or the name of a command that has its own way."""
    bare: bool = False
    """Whether it is a flag without a value, which only a boolean can be."""


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """Settings in force, and where each came from."""

    settings: S
    values: Mapping[str, Value]
    """What was given, by variable name."""


def _given(flags: Sequence[str], environ: Mapping[str, str], folder: Path, mistakes: list[str]) -> dict[str, Value]:
    """Everything that was given, by variable name, each from the source that wins; what can't be read becomes a mistake."""
    values = _from_dotenv(folder / ".env", mistakes)
    values |= {name.upper(): Value(text, "the environment") for name, text in environ.items() if text}
    values |= _from_flags(flags, mistakes)
    chosen = values.pop(SECRETS_DIR, None)
    secrets = _from_secrets(Path(chosen.text) if chosen else DEFAULT_SECRETS_DIR, mistakes, must_exist=chosen is not None)
    return {name: value for name, value in {**secrets, **values}.items() if name.startswith(PREFIX)}


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
    values = _given(flags, os.environ if environ is None else environ, folder or Path.cwd(), mistakes)
    values = {**(defaults or {}), **values}
    full: type[S] = model
    sink: str | None = None
    if issubclass(model, RunSettings):
        sink = values["BRIDGE_SINK"].text if "BRIDGE_SINK" in values else "stdout"
        try:
            full = _with_sink(model, sink)
        except FixSettingsError as problem:
            mistakes.append(f"BRIDGE_SINK: {problem}")
    fields = dict(_leaves(full))
    known = {**_everything_known(), **fields}
    for name, value in sorted(values.items()):
        if name not in known and not _belongs_elsewhere(name, value, sink):
            near = get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            mistakes.append(f"{name}, given by {value.given_by}, is no setting{hint}")
    tree: dict[str, Any] = {name: {} for name, field in full.model_fields.items() if _section(field)}
    for name, value in values.items():
        if name in fields:
            _put(tree, name, value.text)
        if value.bare and name in known and not _is_boolean(known[name]):
            mistakes.append(f"{name}: {value.given_by} has no value; where that begins with --, give it as --name=value")
    try:
        settings = full(**tree)
    except ValidationError as problem:
        mistakes += [_explain(error, fields, values) for error in problem.errors(include_url=False)]
        settings = None
    if mistakes or settings is None:
        raise FixSettingsError("\n".join(mistakes))
    return Loaded(settings, {name: value for name, value in values.items() if name in fields})


def _with_sink(model: type[S], name: str) -> type[S]:
    if name in model.model_fields:
        raise FixSettingsError(f"a sink can't be called {name!r}: the bridge itself has settings of that name")
    sink = sinks.find(name)
    with_sink = type(model.__name__, (model,), {"__annotations__": {name: sink.Settings}, "__module__": __name__})
    assert issubclass(with_sink, model)
    return with_sink


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


def _belongs_elsewhere(name: str, value: Value, sink: str | None) -> bool:
    """Whether a variable that isn't known is no mistake for all that."""
    section, levels, _ = name.removeprefix(PREFIX).partition("__")
    if levels:  # of a sink that isn't chosen
        return section.lower() != sink and section.lower() in sinks.installed()
    # A Kubernetes Service that is named `bridge` injects BRIDGE_PORT and the like: without two underscores it isn't ours.
    return not value.given_by.startswith("the flag")


def _put(tree: dict[str, Any], name: str, text: str) -> None:
    *levels, last = name.removeprefix(PREFIX).lower().split("__")
    for level in levels:
        tree = tree.setdefault(level, {})
    tree[last] = text


# ---- where values come from ------------------------------------------------------------------------------------------


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into the flags that are settings, each as `--name=value` or a bare `--name`, and all the rest.

    A setting takes the argument that follows as its value; a boolean only when that isn't a flag itself. After `--` nothing is
    a setting.
    """
    known = _everything_known()
    flags: list[str] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            others += [argument, *rest]
            break
        name, equals, _ = argument.removeprefix("--").partition("=")
        field = known.get(_variable(name))
        ours = field or "." in name or "__" in name or _variable(name) == SECRETS_DIR
        if not (argument.startswith("--") and ours):
            others.append(argument)
            continue
        if not equals and rest and not (rest[0].startswith("--") and (field is None or _is_boolean(field))):
            argument = f"{argument}={rest.pop(0)}"
        flags.append(argument)
    return flags, others


def _variable(flag: str) -> str:
    return PREFIX + flag.replace("-", "_").replace(".", "__").upper()


def _from_flags(arguments: Sequence[str], mistakes: list[str]) -> dict[str, Value]:
    flags, others = split_flags(arguments)
    values: dict[str, Value] = {}
    for flag in flags:
        name, equals, text = flag.removeprefix("--").partition("=")
        if text or not equals:
            values[_variable(name)] = Value(text or "true", f"the flag --{name}", bare=not equals)
    # What isn't understood may be a secret, or stand beside one, so no more of it is repeated than a flag's name.
    unknown = [argument.partition("=")[0] for argument in others if argument.startswith("-") and argument != "--"]
    for flag in unknown:
        if flag.startswith("--"):
            values[_variable(flag.removeprefix("--"))] = Value("true", f"the flag {flag}")
        else:
            mistakes.append(f"{flag} is no flag; {_FLAGS}")
    if others and not unknown:
        mistakes.append(f"a word on the command line belongs to no flag; {_FLAGS}, in quotation marks where there are spaces")
    return values


_FLAGS = "settings are given as --rocketmq.topic=NAME (see --help)"


def _from_dotenv(path: Path, mistakes: list[str]) -> dict[str, Value]:
    try:
        if not path.is_file():
            return {}
        given = dotenv_values(path, interpolate=False)
    except OSError as problem:
        mistakes.append(f"reading .env: {problem.strerror}")
    except UnicodeDecodeError:
        mistakes.append("reading .env: it is no text in UTF-8")
    else:
        return {name.upper(): Value(text, ".env") for name, text in given.items() if text}
    return {}


def _from_secrets(folder: Path, mistakes: list[str], *, must_exist: bool) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for path in _secret_files(folder, mistakes, must_exist=must_exist):
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_SECRET_BYTES + 1)
            if len(content) > _MAX_SECRET_BYTES:
                mistakes.append(f"{path.name.upper()}: the file {str(path)!r} is larger than {_MAX_SECRET_BYTES:,} bytes")
            elif text := content.decode().strip():
                values[path.name.upper()] = Value(text, str(path))
        except OSError as problem:
            mistakes.append(f"{path.name.upper()}: reading the file {str(path)!r}: {problem.strerror}")
        except UnicodeDecodeError:
            mistakes.append(f"{path.name.upper()}: the file {str(path)!r} is no text in UTF-8")
    return values


def _secret_files(folder: Path, mistakes: list[str], *, must_exist: bool) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.upper().startswith(PREFIX) and path.is_file())
    except FileNotFoundError:
        if must_exist:
            mistakes.append(f"{SECRETS_DIR}: there is no folder {str(folder)!r}")
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        mistakes.append(f"{SECRETS_DIR}: reading the folder {str(folder)!r}: {getattr(problem, 'strerror', problem)}")
    return []


# ---- what is said of them --------------------------------------------------------------------------------------------


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
    value = values.get(name)
    if value is None:
        return f"{name}: {message}{about}"
    shown = "what is given" if field is None or is_secret(field) else repr(without_credentials(value.text))
    return f"{name}: {shown}, given by {value.given_by}: {message}{about}"


def without_credentials(text: str) -> str:
    """A value fit to be shown: a URL loses its user information and its query, and nothing is longer than 200 characters.

    Where it isn't clear how far the user information goes, as with an @ or a / in a password that should have been escaped,
    rather too much is taken away than too little.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    start = scheme.end() if scheme else 0
    user, at, place = text[start:].rpartition("@")
    if at and (scheme or ":" in user):
        text = text[:start] + "…@" + ("…" if re.search("[?#]", user) else place)
    if at or "://" in text:
        text = re.sub(r"(?s)[?#].*", "?…", text)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - one line of a log


def proxy_for(url: str) -> str | None:
    """The proxy that the usual variables (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) name for a URL, if any; none for loopback.

    Raises FixSettingsError for one that doesn't speak HTTP.
    """
    parts = urlsplit(url)
    if _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy is None:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise FixSettingsError(f"{parts.scheme.upper()}_PROXY: {without_credentials(proxy)!r} is no http:// or https:// proxy")
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
