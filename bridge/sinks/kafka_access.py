"""How the Kafka sink gets in: addresses, TLS, logging in, and what to say where that fails."""

import asyncio
import ssl
from base64 import b64encode
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote_plus, urlsplit

import aiohttp
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    NoError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from bridge.environment import proxy_for
from bridge.errors import FixSettingsError, SinkDownError

CHECK_SECONDS = 5.0
"""How long the brokers that the settings name may take, all together, to answer a check."""
TOKEN_SECONDS = 10.0
"""How long a token endpoint may take."""
TOKEN_LIFE_SECONDS = 300.0
"""How long a token is good for where its endpoint doesn't say (RFC 6749, 5.1: `expires_in` is recommended)."""
RENEW_BEFORE_SECONDS = 30.0
"""How long before its end a token is renewed; a fifth of its life where that is less."""


class AccessSettings(BaseModel):
    """Client options by the names that Kafka users know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: str = Field(
        pattern=r"^\s*[^\s,/@]+(\s*,\s*[^\s,/@]+)*\s*$", description="brokers to begin with: host:port, several with commas"
    )
    client_id: str = Field(default="rocketmq-bridge", description="the name of this client in the brokers' logs and quotas")
    request_timeout_ms: int = Field(
        default=30_000, ge=1000, description="milliseconds that a broker may take to answer before it is asked again"
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
        self._token = _Token(settings) if settings.sasl_mechanism == "OAUTHBEARER" else None

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
            "sasl_oauth_token_provider": self._token,
        }

    def read_certificates(self) -> None:
        """Read the files, perhaps anew, for connections to come. Raises FixSettingsError when one isn't what it should be.

        Files are renewed while the bridge runs, so all producers share one context, and it is what changes.
        """
        settings = self._settings
        if not settings.security_protocol.endswith("SSL"):
            return
        try:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=settings.ssl_cafile)
                self._tls.check_hostname = settings.ssl_check_hostname
            elif settings.ssl_cafile:
                self._tls.load_verify_locations(settings.ssl_cafile)
        except OSError as problem:
            raise FixSettingsError(f"SSL_CAFILE: reading CAs from it: {_words(problem)}") from None
        if settings.ssl_certfile:
            secret = settings.ssl_key_password
            # Without a password at all, OpenSSL would ask on the terminal.
            password = secret.get_secret_value() if secret else ""
            try:
                self._tls.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
            except OSError as problem:
                raise FixSettingsError(
                    "SSL_CERTFILE, and SSL_KEYFILE and SSL_KEY_PASSWORD where they are needed: "
                    f"reading a certificate and its key: {_words(problem)}"
                ) from None

    async def check(self, topic: str | None) -> type[BrokerResponseError]:
        """Ask the brokers that the settings name, one by one: what the first that answers says of the topic, or NoError.

        Raises SinkDownError, with what to mend, when none answers.
        """
        try:
            self.read_certificates()
        except FixSettingsError as problem:
            raise SinkDownError(str(problem)) from None
        hosts = collect_hosts(self._settings.bootstrap_servers)
        trouble: SinkDownError | None = None
        for host, port, _ in hosts:
            try:
                async with asyncio.timeout(CHECK_SECONDS / len(hosts)):
                    return await self._ask(host, port, topic)
            except Exception as problem:  # noqa: BLE001 - a broken handshake raises whatever the parsing of its bytes does
                trouble = SinkDownError(f"connecting to Kafka at {host}:{port}: {self.explain(problem)}")
        assert trouble  # there is at least one host
        raise trouble

    async def _ask(self, host: str, port: int, topic: str | None) -> type[BrokerResponseError]:
        connection = await create_conn(host, port, **self.options)
        try:
            metadata = await connection.send(MetadataRequest([topic] if topic else []))
        finally:
            connection.close()
        errors = [error for error, *_ in metadata.topics if error]
        found: type[BrokerResponseError] = for_code(errors[0]) if errors else NoError
        return found

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
            case SaslAuthenticationFailed() | AuthenticationFailedError() if self._token:
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


class _Token(AbstractTokenProvider):  # type: ignore[misc]  # as above
    """Tokens by client credentials (RFC 6749, 4.4), each used until shortly before its end."""

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._one_at_a_time = asyncio.Lock()
        self._token = ""
        self._renew_at = self._ends_at = 0.0  # on the event loop's clock

    async def token(self) -> str:
        """One that is good for a while. Raises TokenError, unless the last one still is."""
        now = asyncio.get_running_loop().time
        async with self._one_at_a_time:
            if now() >= self._renew_at:
                asked_at = now()
                try:
                    self._token, life = await self._fetch()
                except TokenError:
                    if now() >= self._ends_at:
                        raise
                else:
                    self._renew_at = asked_at + life - min(RENEW_BEFORE_SECONDS, life / 5)
                    self._ends_at = asked_at + life
        return self._token

    async def _fetch(self) -> tuple[str, float]:
        settings = self._settings
        url, client = settings.sasl_oauthbearer_token_endpoint_url, settings.sasl_oauthbearer_client_id
        secret, scope = settings.sasl_oauthbearer_client_secret, settings.sasl_oauthbearer_scope
        assert url
        assert client
        assert secret
        # RFC 6749, 2.3.1: each half is encoded as in a form, and then both as HTTP Basic has it.
        login = b64encode(f"{quote_plus(client)}:{quote_plus(secret.get_secret_value())}".encode()).decode()
        trust = ssl.create_default_context()
        if settings.ssl_cafile:  # the endpoint may be in the same private house, or a public service
            trust.load_verify_locations(settings.ssl_cafile)
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TOKEN_SECONDS)) as session,
                session.post(
                    url,
                    data={"grant_type": "client_credentials"} | ({"scope": scope} if scope else {}),
                    headers={"Authorization": f"Basic {login}"},
                    ssl=trust,
                    proxy=proxy_for(url),
                    allow_redirects=False,
                ) as response,
            ):
                if not response.ok:
                    raise TokenError(self._trouble(f"HTTP status {response.status}"))
                answer = await response.json(content_type=None)
                return str(answer["access_token"]), float(answer.get("expires_in", TOKEN_LIFE_SECONDS))
        except (aiohttp.ClientConnectionError, TimeoutError) as problem:
            raise TokenError(self._trouble(f"no answer ({type(problem).__name__})")) from None
        except (aiohttp.ClientError, FixSettingsError, ValueError, KeyError, TypeError) as problem:
            raise TokenError(self._trouble(f"no token in the answer ({type(problem).__name__})")) from None

    def _trouble(self, what: str) -> str:
        host = urlsplit(self._settings.sasl_oauthbearer_token_endpoint_url or "").netloc
        return f"getting a token from {host}: {what}: see SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, …_CLIENT_ID and …_CLIENT_SECRET"


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
