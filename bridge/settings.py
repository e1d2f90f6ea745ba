"""Settings: what can be set.

Every setting is an environment variable `BRIDGE_…` with `__` between levels. The same names work as flags
(`--rocketmq.endpoint`), in a file `.env` of the working directory, and as files of a secrets folder (`BRIDGE_SECRETS_DIR`).
A flag wins over the environment, that over `.env`, that over a secret's file. An empty value is as good as none.
`bridge.loading` finds out what is in force.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize, ConfigDict, Field, PrivateAttr, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from yarl import URL

from bridge.emulator.faults import Faults
from bridge.environment import PREFIX, Value
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
        try:
            (URL(value).host or "").encode("idna")
        except ValueError:  # as UnicodeError is, for what no name server could be asked for
            raise ValueError("should name a host that can exist") from None
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
        description="cloudevents; body, the body alone; or eventbridge, the shape that Alibaba Cloud EventBridge gives; dead "
        "letters are always cloudevents, which tell why",
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
        default=None,
        ge=0,
        description="how long before a lease's end to stop, half of it at most; a tenth of the lease, at most 10, when not set",
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

    @field_validator("sink")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("should name a sink, or not be set")
        return value.strip() if value else value


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
            ended_too_soon = parts.fragment or "@" in parts.path + parts.query
        except ValueError:  # whose text may hold a piece of the password
            parts, ended_too_soon = urlsplit(""), True
        if ended_too_soon:
            raise ValueError("should be a URL, with / # ? @ : in user name and password percent-encoded")
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

    @field_validator("endpoint")
    @classmethod
    def _is_a_host(cls, value: str | None) -> str | None:
        if value and not urlsplit(value if "://" in value else f"//{value}").hostname:
            raise ValueError("should name a host")
        return value

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


class CommandSettings(BaseSettings):
    """All that a command reads. Its values come merged from `bridge.loading`: pydantic-settings' sources hide where from."""

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
        """See `BaseSettings`."""
        return (init_settings,)


class RunSettings(CommandSettings):
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
        return sink_names(self.sink)

    def of_sink(self, name: str) -> BaseModel:
        """The settings of a chosen sink."""
        return _part(self, name)

    @property
    def of_dead_letters(self) -> BaseModel:
        """The settings of the sink of dead letters, where there is one."""
        return _part(self.dead_letter, self.dead_letter.sink or "")


def sink_names(text: str) -> list[str]:
    """The names of sinks that were given with commas."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _part(whole: BaseModel, name: str) -> BaseModel:
    part = getattr(whole, name)
    assert isinstance(part, BaseModel)
    return part


class EmulatorSettings(CommandSettings):
    """Of `bridge emulator`, and of the emulator in `bridge demo`."""

    emulator: EmulatorFace
    log: Log


class PublishSettings(CommandSettings):
    """Of `bridge publish`."""

    rocketmq: Endpoint
    log: Log
