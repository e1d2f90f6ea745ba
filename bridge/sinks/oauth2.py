"""OAuth2 client credentials (RFC 6749, 4.4): bearer tokens for a client that knows its secret."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import quote_plus, urlencode

from pydantic import BaseModel, Field, SecretStr, ValidationError
from yarl import URL

from bridge.errors import BridgeError, SinkDownError, TryAgainError
from bridge.sinks.http import Answer, Http, basic
from bridge.sinks.tls import trusting

FETCH_SECONDS = 10.0
"""How long fetching a token may take."""
RENEW_BEFORE_SECONDS = 30.0
"""How long before its end a token is renewed; a fifth of its life where that is less."""
PAUSE_SECONDS = 5.0
"""How long a renewal that failed isn't tried again while the old token holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks, where, and for what. The names of settings are those to look at when no token comes, the URL's first."""

    url: URL = field(repr=False)
    id: str
    secret: SecretStr
    settings: tuple[str, str, str]
    parameters: Mapping[str, str | None]
    """Of the token request, beside the grant type and the client; None for one that is left out."""
    in_body: bool = False
    """Whether the client stands in the body of the request, and not in its header."""
    ca_file: Path | None = None
    """A CA to trust beside the machine's own: the endpoint may be in the same private house, or a public service."""
    ca_setting: str


class _TokenAnswer(BaseModel):
    """RFC 6749, 5.1. Some servers write the number as text."""

    access_token: Annotated[str, Field(pattern=r"^[!-~]+$")]
    token_type: Annotated[str, Field(pattern=r"^(?i:bearer)$")] | None = None
    expires_in: Annotated[float, Field(ge=0)] | None = None


@dataclass(slots=True)
class _Token:
    value: str
    renew_at: float
    expires_at: float


class Tokens:
    """The tokens of a client, each fetched once for all who need one, and renewed before its end.

    `life_seconds` is how long one holds whose endpoint doesn't say. `now` is a clock that only goes forward, in seconds.
    """

    def __init__(self, client: Client, *, life_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._life_seconds = life_seconds
        self._now = now
        self._token: _Token | None = None
        self._fetching: asyncio.Task[_Token] | None = None

    async def token(self) -> str:
        """One that holds. While it does, a renewal that fails is no trouble yet. Raises SinkDownError, and FixSettingsError."""
        token = self._token
        if token and self._now() < min(token.renew_at, token.expires_at):
            return token.value
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        try:
            token = await asyncio.shield(self._fetching)  # others may wait for it longer than this one does
        except BridgeError:
            if not token or self._now() >= token.expires_at:
                raise
        return token.value

    def reject(self, token: str | None = None) -> None:
        """It was not accepted: the next is another. Of those that hear so together, the first has it fetched anew."""
        if self._token and token in (None, self._token.value):
            self._token = None

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _fetched(self, task: asyncio.Task[_Token]) -> None:
        self._fetching = None
        if not task.cancelled() and not task.exception():  # looking at it keeps asyncio from complaining that nobody did
            self._token = task.result()
        elif self._token:
            self._token.renew_at = self._now() + PAUSE_SECONDS

    async def _fetch(self) -> _Token:
        asked_at = self._now()
        said = await self._ask()
        life = self._life_seconds if said.expires_in is None else said.expires_in
        renew_at = asked_at + life - min(RENEW_BEFORE_SECONDS, life / 5)
        return _Token(said.access_token, renew_at=renew_at, expires_at=asked_at + life)

    async def _ask(self) -> _TokenAnswer:
        see = f"check {self._client.settings[0]}, {self._client.settings[1]} and {self._client.settings[2]}"
        try:
            answer = await self._post()
        except (SinkDownError, TryAgainError) as problem:
            raise SinkDownError(f"fetching an OAuth2 token: {problem}") from problem
        if not answer.is_success:
            secret = self._client.secret.get_secret_value()
            hidden = [secret, quote_plus(secret), self._basic().partition(" ")[2]]
            raise SinkDownError(f"fetching an OAuth2 token: answered {answer.said(hidden)}; {see}")
        try:
            return _TokenAnswer.model_validate_json(answer.body)
        except ValidationError:  # its text would repeat what may be a token
            raise SinkDownError(f"fetching an OAuth2 token: the answer holds no bearer token; {see}") from None

    async def _post(self) -> Answer:
        client = self._client
        form = {"grant_type": "client_credentials"} | {name: text for name, text in client.parameters.items() if text}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if client.in_body:
            form |= {"client_id": client.id, "client_secret": client.secret.get_secret_value()}
        else:
            headers["Authorization"] = self._basic()
        trust = trusting(client.ca_file, client.ca_setting, others_too=True)
        http = Http(
            client.url,
            client.settings[0],
            tls=lambda: trust,
            max_connections=1,
            ca_setting=client.ca_setting,
            certificate_setting=None,
        )
        try:
            return await http.exchange(
                "POST", client.url, headers=headers, timeout_seconds=FETCH_SECONDS, body=urlencode(form).encode()
            )
        finally:
            await http.close()

    def _basic(self) -> str:
        """RFC 6749, 2.3.1: each half is form-encoded first."""
        return basic(quote_plus(self._client.id), quote_plus(self._client.secret.get_secret_value()))
