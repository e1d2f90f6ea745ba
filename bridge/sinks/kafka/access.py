"""How the Kafka sink gets in: addresses, TLS, logging in, and what to say where that fails."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, Literal

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    NoError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator
from yarl import URL

from bridge.errors import BridgeError, FixSettingsError, SinkDownError
from bridge.sinks.http import plausible_url
from bridge.sinks.oauth2 import Client, Tokens
from bridge.sinks.tls import show, trusting

CHECK_SECONDS = 5.0
"""How long the brokers that the settings name may take, all together, to answer a check."""
MAX_PORT = 65_535
TOKEN_LIFE_SECONDS = 300.0
"""How long a token is taken to hold whose endpoint doesn't say: aiokafka doesn't tell that a broker has rejected one."""

_NOT_LET_IN = (SaslAuthenticationFailed, AuthenticationFailedError, IllegalSaslStateError)


class AccessSettings(BaseModel):
    """Client options by the names that Kafka users know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: str = Field(
        pattern=r"^\s*[^\s,/@]+(\s*,\s*[^\s,/@]+)*\s*$", description="brokers to begin with: host:port, several with commas"
    )
    client_id: str = Field(default="rocketmq-bridge", description="the name of this client in the brokers' logs and quotas")
    request_timeout_ms: int = Field(
        default=30_000,
        ge=1000,
        le=3_600_000,
        description="milliseconds that a broker may take to answer before it is asked again",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="what the brokers' listener speaks: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="PLAIN", description="how to log in, with SASL_…: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"
    )
    sasl_username: str | None = Field(default=None, description="the user, with PLAIN and SCRAM")
    sasl_password: SecretStr | None = Field(default=None, description="and the password")
    sasl_oauthbearer_token_endpoint_url: str | None = Field(
        default=None, pattern=r"^https?://[^@]+$", description="where OAUTHBEARER gets its tokens, by client credentials"
    )
    sasl_oauthbearer_client_id: str | None = Field(default=None, description="the client's id there")
    sasl_oauthbearer_client_secret: SecretStr | None = Field(default=None, description="and its secret")
    sasl_oauthbearer_scope: str | None = Field(default=None, description="the scope to ask for")
    ssl_cafile: Path | None = Field(
        default=None, description="a PEM file with the CAs that brokers are checked against; the system's when not set"
    )
    ssl_certfile: Path | None = Field(default=None, description="a PEM file with the client's certificate, for mutual TLS")
    ssl_keyfile: Path | None = Field(default=None, description="a PEM file with its key, where that is another file")
    ssl_key_password: SecretStr | None = Field(default=None, description="the password of that key")
    ssl_check_hostname: bool = Field(default=True, description="whether a broker's certificate must be made out to its name")

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_hosts_and_ports(cls, value: str) -> str:
        try:
            ports = [port for _, port, _ in collect_hosts(value)]
        except ValueError:
            ports = [-1]
        if not all(0 < port <= MAX_PORT for port in ports):
            raise ValueError("should be host:port, several with commas; an IPv6 address stands in brackets")
        return value

    @field_validator("sasl_oauthbearer_token_endpoint_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        return value and plausible_url(value)

    @field_validator("ssl_cafile", "ssl_certfile", "ssl_keyfile")
    @classmethod
    def _is_for_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        protocol = info.data.get("security_protocol", "SSL")
        if value and not protocol.endswith("SSL"):
            raise ValueError(f"is of no use with SECURITY_PROTOCOL {protocol}, which isn't encrypted")
        return value

    @model_validator(mode="after")
    def _can_log_in(self) -> "AccessSettings":
        if self.security_protocol.startswith("SASL"):
            needed = ["sasl_username", "sasl_password"]
            if self.sasl_mechanism == "OAUTHBEARER":
                needed = [f"sasl_oauthbearer_{name}" for name in ("token_endpoint_url", "client_id", "client_secret")]
            if missing := [name.upper() for name in needed if getattr(self, name) is None]:
                raise ValueError(
                    f"{' and '.join(missing)} should be set, with SECURITY_PROTOCOL {self.security_protocol} "
                    f"and SASL_MECHANISM {self.sasl_mechanism}"
                )
        return self


class Access:
    """The settings as aiokafka wants them, and a way to try them out."""

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        self._tokens = _tokens_of(settings)

    @property
    def options(self) -> dict[str, Any]:
        """What a connection has to know, by the names of aiokafka's arguments; after `read_certificates`."""
        settings = self._settings
        return {
            "client_id": settings.client_id,
            "security_protocol": settings.security_protocol,
            "ssl_context": self._tls,
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value() if settings.sasl_password else None,
            "sasl_oauth_token_provider": _TokenProvider(self._tokens) if self._tokens else None,
        }

    def read_certificates(self) -> None:
        """Read the files, perhaps anew, for connections to come. Raises FixSettingsError when one isn't what it should be.

        Files are renewed while the bridge runs, so all producers share one context, and it is what changes.
        """
        settings = self._settings
        if not settings.security_protocol.endswith("SSL"):
            return
        read = trusting(settings.ssl_cafile, "SSL_CAFILE")
        if self._tls is None:
            self._tls = read
            self._tls.check_hostname = settings.ssl_check_hostname
        elif settings.ssl_cafile:
            self._tls.load_verify_locations(settings.ssl_cafile)
        if settings.ssl_certfile:
            names = "SSL_CERTFILE, SSL_KEYFILE, SSL_KEY_PASSWORD"
            show(self._tls, settings.ssl_certfile, settings.ssl_keyfile, settings.ssl_key_password, names)

    async def check(self, topic: str | None) -> None:
        """Ask the brokers that the settings name, one by one, for a topic; the first that answers decides.

        Raises SinkDownError, with what to mend, when none answers; and what is said of the topic, as one of aiokafka's errors.
        """
        try:
            self.read_certificates()
        except FixSettingsError as problem:
            raise SinkDownError(str(problem)) from None
        hosts = collect_hosts(self._settings.bootstrap_servers)
        trouble = ""
        for host, port, _ in hosts:
            try:
                async with asyncio.timeout(CHECK_SECONDS / len(hosts)):
                    said = await self._ask(host, port, topic)
                break
            except Exception as problem:  # noqa: BLE001 - a broken handshake raises whatever the parsing of its bytes does
                trouble = f"connecting to Kafka at {host}:{port}: {self.explain(problem)}"
        else:
            raise SinkDownError(trouble)
        if said is not NoError:
            raise said

    async def _ask(self, host: str, port: int, topic: str | None) -> type[BrokerResponseError]:
        try:
            connection = await create_conn(host, port, **self.options)
            try:
                metadata = await connection.send(MetadataRequest([topic] if topic else []))
            finally:
                connection.close()
            said: list[type[BrokerResponseError]] = [for_code(error) for error, *_ in metadata.topics]
            # aiokafka doesn't read that a token is rejected (RFC 7628, 3.2.2): the first request is what fails then. Without
            # tokens it is a broker that has just come up, or was frozen, who names none.
            if IllegalSaslStateError in said or (self._tokens and not metadata.brokers):
                raise IllegalSaslStateError
        except _NOT_LET_IN:
            if self._tokens:
                self._tokens.reject()
            raise
        return said[0] if said else NoError

    async def close(self) -> None:
        """Stop fetching a token, if one is being fetched."""
        if self._tokens:
            await self._tokens.close()

    def explain(self, problem: BaseException) -> str:
        """What went wrong with a connection, and which setting to look at; never a secret."""
        settings = self._settings
        what = _tls_trouble(problem) or f"{type(problem).__name__}: {problem}"
        match problem:
            case _ if _tls_trouble(problem):
                pass
            case TokenError():
                what = str(problem)
            case UnsupportedSaslMechanismError():
                what = f"this listener does not take SASL_MECHANISM {settings.sasl_mechanism}"
            case SaslAuthenticationFailed() | AuthenticationFailedError() | IllegalSaslStateError() if self._tokens:
                what = "the token was not accepted: see SASL_OAUTHBEARER_CLIENT_ID and SASL_OAUTHBEARER_SCOPE"
            case SaslAuthenticationFailed() | AuthenticationFailedError():
                user = settings.sasl_username
                what = f"the user {user!r} or its password was not accepted: see SASL_USERNAME and SASL_PASSWORD"
            case ClusterAuthorizationFailedError():
                what = "the user may not write idempotently: it needs the right to WRITE to the topic, or IDEMPOTENT_WRITE"
            case TimeoutError():
                what = "no answer in time"
            case KafkaConnectionError() | ConnectionResetError():
                what = f"the connection was closed: see SECURITY_PROTOCOL, which is {settings.security_protocol}"
            case OSError():
                what = f"{_words(problem)}: see BOOTSTRAP_SERVERS"
        return what


class TokenError(KafkaError):  # type: ignore[misc]  # aiokafka ships no types
    """No token could be had. It is one of aiokafka's errors so that aiokafka takes it for a connection that failed."""


class _TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # as above
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def token(self) -> str:
        try:
            return await self._tokens.token()
        except BridgeError as problem:
            raise TokenError(str(problem)) from problem


def _tokens_of(settings: AccessSettings) -> Tokens | None:
    url, client_id = settings.sasl_oauthbearer_token_endpoint_url, settings.sasl_oauthbearer_client_id
    secret = settings.sasl_oauthbearer_client_secret
    if settings.sasl_mechanism != "OAUTHBEARER" or not (url and client_id and secret):
        return None
    client = Client(
        url=URL(url),
        id=client_id,
        secret=secret,
        settings=(
            "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
            "SASL_OAUTHBEARER_CLIENT_ID",
            "SASL_OAUTHBEARER_CLIENT_SECRET",
        ),
        parameters={"scope": settings.sasl_oauthbearer_scope},
        ca_file=settings.ssl_cafile,
        ca_setting="SSL_CAFILE",
    )
    return Tokens(client, life_seconds=TOKEN_LIFE_SECONDS)


def _tls_trouble(problem: BaseException | None) -> str | None:
    while problem:  # TLS 1.3 misses a client's certificate only when the connection is first read from
        if isinstance(problem, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {problem.verify_message}: see SSL_CAFILE"
        if isinstance(problem, ssl.SSLError):
            return f"TLS: {_words(problem)}: see SECURITY_PROTOCOL and, for mutual TLS, SSL_CERTFILE"
        problem = problem.__cause__
    return None


def _words(problem: BaseException) -> str:
    reason = getattr(problem, "reason", None) or getattr(problem, "strerror", None) or str(problem)
    return str(reason) or type(problem).__name__
