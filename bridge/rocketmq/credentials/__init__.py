"""Who we are to the service."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key, with a security token when it is a temporary one (protocol.md 1.5). No `repr` shows a secret."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    """In seconds since the epoch; None when they don't expire, or nobody has said when."""


CredentialsNow = Callable[[], Credentials]
"""Gives the credentials in force; asked for every request, so that keys can be rotated while the bridge runs."""


class Place(Protocol):
    """Where credentials come from that change while the bridge runs."""

    period: float
    """How often to look there, in seconds."""

    def look(self, *, refused: bool) -> Credentials:
        """The credentials that should be in force now; `refused` tells that the service doesn't take those given last.

        May block, so it is called in a thread, and never in two at once. Raises FixSettingsError when somebody has to mend
        something, and TryAgainError for anything that may pass.
        """
