"""Who the bridge is to the receiver: what stands in the header `Authorization`."""

import asyncio
import os
import re
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import orjson
from yarl import URL

from bridge.errors import SinkDownError, TryAgainError
from bridge.sinks.webhook.answers import Answer
from bridge.sinks.webhook.http import Http
from bridge.sinks.webhook.settings import WebhookSettings, url_of
from bridge.sinks.webhook.tls import trusting, version_of

TOKEN_SECONDS = 10.0
"""How long fetching a token may take."""
RENEW_BEFORE_SECONDS = 30.0
"""How long before its end a token is renewed; a fifth of its life where that is less."""
PAUSE_SECONDS = 5.0
"""How long a renewal that failed isn't tried again while the old token holds."""
_MAX_FILE_BYTES = 65_536


class Authorization(ABC):
    """One way to authenticate."""

    @abstractmethod
    async def header(self) -> str | None:
        """The header's value for an attempt that begins now; None for none. Raises SinkDownError."""

    def renew(self, rejected: str | None) -> bool:  # noqa: ARG002 - what never changes has no use for it
        """The receiver has answered 401 to that value; tell whether the next one may be another."""
        return False

    async def close(self) -> None:  # noqa: B027 - what has opened nothing leaves it out
        """Let go of connections."""


class Fixed(Authorization):
    """Always the same value, or none."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    async def header(self) -> str | None:
        """See `Authorization.header`."""
        return self._value


def basic(username: str, password: str) -> str:
    """The value for a user and a password (RFC 7617)."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


class TokenFile(Authorization):
    """A bearer token in a file, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: object = None
        self._value: str | None = None

    async def header(self) -> str | None:
        """See `Authorization.header`."""
        self._look()
        return self._value

    def renew(self, rejected: str | None) -> bool:
        """See `Authorization.renew`. A file may change without showing it, within its clock's resolution."""
        self._version = None
        self._look()
        return self._value != rejected

    def _look(self) -> None:
        version = version_of([self._path])
        if version != self._version:
            self._value = f"Bearer {self._read()}"
            self._version = version

    def _read(self) -> str:
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123 - as with os.stat
                token = file.read(_MAX_FILE_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else "it is no ASCII text"
            raise SinkDownError(f"AUTH_TOKEN_FILE: reading {os.fspath(self._path)!r}: {why}") from None
        if not _is_token(token):
            raise SinkDownError(f"AUTH_TOKEN_FILE: {os.fspath(self._path)!r} should hold one word of visible ASCII characters")
        return token


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float
    expires_at: float


class ClientCredentials(Authorization):
    """Bearer tokens for OAuth2 client credentials (RFC 6749, 4.4), fetched once for all attempts that need one.

    `parameters` are those of the token request beside the grant type. `basic_auth` is the client as a value of
    `Authorization`, where it doesn't stand among the parameters. `now` is a clock that only goes forward, in seconds.
    """

    def __init__(
        self, http: Http, url: URL, parameters: dict[str, str], *, basic_auth: str | None, now: Callable[[], float]
    ) -> None:
        self._hidden = [parameters.get("client_secret", ""), (basic_auth or "").partition(" ")[2]]
        self._http = http
        self._url = url
        self._body = urlencode({"grant_type": "client_credentials", **parameters}).encode()
        self._headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if basic_auth:
            self._headers["Authorization"] = basic_auth
        self._now = now
        self._token: _Token | None = None
        self._fetching: asyncio.Task[_Token] | None = None
        self._pause_until = 0.0

    async def header(self) -> str | None:
        """See `Authorization.header`. While a token holds, a renewal that fails is no trouble yet."""
        token = self._token
        if token and self._now() < max(token.renew_at, min(self._pause_until, token.expires_at)):
            return token.value
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        try:
            token = await asyncio.shield(self._fetching)  # others may wait for it longer than this one does
        except SinkDownError:
            if not token or self._now() >= token.expires_at:
                raise
        return token.value

    def renew(self, rejected: str | None) -> bool:
        """See `Authorization.renew`. Of those that were rejected together, the first has the token fetched anew."""
        if self._token and self._token.value == rejected:
            self._token = None
        return True

    async def close(self) -> None:
        """See `Authorization.close`."""
        if self._fetching:
            self._fetching.cancel()
        await self._http.close()

    def _fetched(self, task: asyncio.Task[_Token]) -> None:
        self._fetching = None
        if task.cancelled() or task.exception():  # looking at it is what keeps asyncio from complaining that nobody did
            self._pause_until = self._now() + PAUSE_SECONDS
        else:
            self._token = task.result()

    async def _fetch(self) -> _Token:
        asked_at = self._now()
        try:
            answer = await self._http.exchange(
                "POST", self._url, headers=self._headers, timeout_seconds=TOKEN_SECONDS, body=self._body
            )
        except (SinkDownError, TryAgainError) as problem:
            raise SinkDownError(f"fetching an OAuth2 token: {problem}") from problem
        if not answer.is_success:
            raise SinkDownError(
                f"fetching an OAuth2 token: answered {answer.said(self._hidden)}; "
                "check AUTH_TOKEN_URL, AUTH_CLIENT_ID and AUTH_CLIENT_SECRET"
            )
        said = _object(answer)
        token, kind = said.get("access_token"), said.get("token_type", "Bearer")
        if not isinstance(token, str) or not _is_token(token) or not isinstance(kind, str) or kind.lower() != "bearer":
            raise SinkDownError("fetching an OAuth2 token: the answer holds no bearer token; check AUTH_TOKEN_URL")
        life = _seconds(said.get("expires_in"))
        return _Token(
            f"Bearer {token}",
            renew_at=asked_at + life - min(RENEW_BEFORE_SECONDS, life / 5),
            expires_at=asked_at + life,
        )


def _object(answer: Answer) -> dict[str, object]:
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(expires_in: object) -> float:
    """The life of a token; one that doesn't say it is renewed when it is rejected. Some servers write the number as text."""
    if isinstance(expires_in, str) and re.fullmatch(r"\d{1,9}", expires_in):
        expires_in = int(expires_in)
    return max(0.0, float(expires_in)) if isinstance(expires_in, int | float) else 1e9


def _is_token(text: str) -> bool:
    return re.fullmatch(r"[!-~]+", text) is not None


def authorization_of(settings: WebhookSettings, now: Callable[[], float]) -> Authorization:
    """The way to authenticate that the settings choose; `now` as for ClientCredentials. Made inside the event loop."""
    url = url_of(settings.url)
    if url.user:
        return Fixed(basic(url.user, url.password or ""))
    if settings.auth_username:
        return Fixed(basic(settings.auth_username, settings.auth_password.get_secret_value() if settings.auth_password else ""))
    if settings.auth_token:
        return Fixed(f"Bearer {settings.auth_token.get_secret_value()}")
    if settings.auth_token_file:
        return TokenFile(settings.auth_token_file)
    if settings.auth_token_url and settings.auth_client_id and settings.auth_client_secret:
        return _client_credentials(settings, now, settings.auth_client_id, settings.auth_client_secret.get_secret_value())
    return Fixed(None)


def _client_credentials(
    settings: WebhookSettings, now: Callable[[], float], client_id: str, client_secret: str
) -> ClientCredentials:
    url = url_of(settings.auth_token_url or "")
    trust = trusting(settings.ca_file, others_too=True)  # it may be in the same private house, or a public service
    http = Http(url, "AUTH_TOKEN_URL", tls=lambda: trust, max_connections=1)
    parameters = {"scope": settings.auth_scope, "audience": settings.auth_audience}
    asked = {name: value for name, value in parameters.items() if value}
    if settings.auth_client_in == "body":
        asked |= {"client_id": client_id, "client_secret": client_secret}
    # RFC 6749, 2.3.1: each half is form-encoded first
    in_header = basic(quote_plus(client_id), quote_plus(client_secret)) if settings.auth_client_in == "header" else None
    return ClientCredentials(http, url, asked, basic_auth=in_header, now=now)
