"""Who the bridge is to the receiver: what stands in the header `Authorization`."""

import asyncio
import math
import re
from abc import ABC, abstractmethod
from pathlib import Path

from bridge.errors import SinkDownError
from bridge.sinks.http import basic, url_of
from bridge.sinks.oauth2 import Client, Tokens
from bridge.sinks.webhook.settings import WebhookSettings

UNTIL_REJECTED = math.inf
"""How long a token holds, in seconds, whose life isn't told: the receiver will say."""
_MAX_FILE_BYTES = 65_536


class Authorization(ABC):
    """One way to authenticate."""

    @abstractmethod
    async def header(self, *, until: float | None = None) -> str | None:
        """The header's value for an attempt that begins now; None for none.

        Raises SinkDownError, and TimeoutError when it isn't known `until` an instant of the event loop's clock.
        """

    def renew(self, rejected: str | None) -> bool:  # noqa: ARG002 - what never changes has no use for it
        """The receiver has answered 401 to that value; tell whether the next one may be another."""
        return False

    async def close(self) -> None:  # noqa: B027 - what does nothing by itself leaves it out
        """Stop what is going on."""


class Fixed(Authorization):
    """Always the same value, or none."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    async def header(self, *, until: float | None = None) -> str | None:  # noqa: ARG002 - it is known already
        """See `Authorization.header`."""
        return self._value


class TokenFile(Authorization):
    """A bearer token in a file that somebody renews: it is read for each attempt."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def header(self, *, until: float | None = None) -> str | None:  # noqa: ARG002 - it is known at once
        """See `Authorization.header`."""
        return self._read()

    def renew(self, rejected: str | None) -> bool:
        """See `Authorization.renew`."""
        return self._read() != rejected

    def _read(self) -> str:
        try:
            with self._path.open("rb") as file:
                token = file.read(_MAX_FILE_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else "it is no ASCII text"
            raise SinkDownError(f"AUTH_TOKEN_FILE: reading {str(self._path)!r}: {why}") from None
        if not re.fullmatch(r"[!-~]+", token):
            raise SinkDownError(f"AUTH_TOKEN_FILE: {str(self._path)!r} should hold one word of visible ASCII characters")
        return f"Bearer {token}"


class OAuth2(Authorization):
    """Bearer tokens for OAuth2 client credentials."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def header(self, *, until: float | None = None) -> str | None:
        """See `Authorization.header`."""
        async with asyncio.timeout_at(until):
            return f"Bearer {await self._tokens.token()}"

    def renew(self, rejected: str | None) -> bool:
        """See `Authorization.renew`."""
        self._tokens.reject((rejected or "").removeprefix("Bearer "))
        return True

    async def close(self) -> None:
        """See `Authorization.close`."""
        await self._tokens.close()


def authorization_of(settings: WebhookSettings) -> Authorization:
    """The way to authenticate that the settings choose."""
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
        client = Client(
            url=url_of(settings.auth_token_url),
            id=settings.auth_client_id,
            secret=settings.auth_client_secret,
            settings=("AUTH_TOKEN_URL", "AUTH_CLIENT_ID", "AUTH_CLIENT_SECRET"),
            parameters={"scope": settings.auth_scope, "audience": settings.auth_audience},
            in_body=settings.auth_client_in == "body",
            ca_file=settings.ca_file,
            ca_setting="CA_FILE",
        )
        return OAuth2(Tokens(client, life_seconds=UNTIL_REJECTED))
    return Fixed(None)
