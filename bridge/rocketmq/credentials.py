"""Who we are to the service."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key, with a security token when it is a temporary one (protocol.md 1.5). No `repr` shows a secret."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)


CredentialsNow = Callable[[], Credentials]
"""Gives the credentials in force; asked for every request, so that keys can be rotated while the bridge runs."""
