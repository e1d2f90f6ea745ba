"""The Alibaba Cloud default credentials chain, by the official library."""

import importlib
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from bridge.errors import BridgeError, FixSettingsError, MissingExtraError, TryAgainError
from bridge.rocketmq.credentials import Credentials

RENEWED_BEFORE_SECONDS = 600.0
"""The library renews credentials 15 minutes before they expire; those that expire sooner than this it could not renew."""

_CHAIN = "BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET are not set, and the Alibaba Cloud default credentials chain"


class Chain:
    """Asks the library's providers in the order of its own default chain, and stays with the first that has credentials.

    Its `DefaultCredentialsProvider` itself is not used: it hides when credentials expire, starts a thread that never ends, and
    takes another identity when the configured one can't be had for a moment. The providers block, for some seconds at most.
    `wall_clock` tells seconds since the epoch.
    """

    period = 60.0

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._makers: dict[str, Callable[[], Any]] = {}
        self._providers: dict[str, Any] = {}
        self._last_resort: str | None = None
        self._chosen: str | None = None
        self._expires_at: float | None = None
        self._has_a_thread = False

    def look(self, *, refused: bool) -> Credentials:
        """See `Place.look`. Raises MissingExtraError when the library isn't installed."""
        if not self._makers:
            self._makers = self._load()
        if self._chosen is None:
            return self._choose()
        too_old = self._expires_at is not None and self._expires_at - self._wall_clock() < RENEWED_BEFORE_SECONDS
        # A new provider has fetched nothing yet. But each instance role that a profile names has a thread that never ends.
        if (refused or too_old) and not self._has_a_thread:
            self._providers.pop(self._chosen, None)
        return self._ask(self._chosen)

    def _load(self) -> dict[str, Callable[[], Any]]:
        """The providers in their order, by a name for people."""
        try:
            library: Any = importlib.import_module("alibabacloud_credentials.provider")
        except ImportError:
            raise MissingExtraError(f"{_CHAIN} needs a package: pip install 'rocketmq-bridge[credentials]'") from None
        # They write to stderr on their own, in their own form, and URLs with tokens in them.
        for name in ("credentials", "alibabacloud-tea"):
            logging.getLogger(name).disabled = True
        instance_role = "instance role"
        if not importlib.import_module("alibabacloud_credentials.utils.auth_util").environment_ecs_metadata:
            self._last_resort = instance_role
        return {
            "environment": library.EnvironmentVariableCredentialsProvider,
            "OIDC role": library.OIDCRoleArnCredentialsProvider,
            "CLI profile": library.CLIProfileCredentialsProvider,
            "profile": library.ProfileCredentialsProvider,
            instance_role: partial(library.EcsRamRoleCredentialsProvider, async_update_enabled=False),
            "credentials URI": library.URLCredentialsProvider,
        }

    def _choose(self) -> Credentials:
        reasons = []
        for name in self._makers:
            try:
                found = self._ask(name)
            except BridgeError as problem:
                # Nobody has said that this is an instance: no answer there means that it is none.
                if isinstance(problem, TryAgainError) and name != self._last_resort:
                    raise
                reasons.append(str(problem))
            else:
                self._chosen = name
                return found
        raise FixSettingsError(f"{_CHAIN} has none: {'; '.join(reasons)}")

    def _ask(self, name: str) -> Credentials:
        try:
            if name not in self._providers:
                self._providers[name] = self._makers[name]()
            found = self._providers[name].get_credentials()
            key_id, secret, token = found.get_access_key_id(), found.get_access_key_secret(), found.get_security_token()
        except Exception as problem:  # noqa: BLE001 - whatever its parts raise, it isn't there
            kind = TryAgainError if _may_pass(problem) else FixSettingsError
            raise kind(f"{name}: {_in_one_line(problem)}") from None  # its own text may hold a token
        if not key_id or not secret:
            raise FixSettingsError(f"{name}: what it gives is no access key")
        self._expires_at = found.get_expiration() or None
        self._has_a_thread = found.get_provider_name().endswith("/ecs_ram_role")
        return Credentials(
            access_key_id=key_id, access_key_secret=secret, security_token=token or None, expires_at=self._expires_at
        )


def _may_pass(problem: Exception) -> bool:
    """Whether it is trouble of the network or of a server: any other answer is about what was set."""
    return _is_of_the_network(problem) or bool(re.search(r"(?i)http_?code[:=] ?(5\d\d|429)", str(problem)))


def _is_of_the_network(problem: Exception) -> bool:
    return type(problem).__name__ == "RetryError"  # what the library makes of every error of requests, with its text


def _in_one_line(problem: Exception) -> str:
    """What the library says, without what may be secret: queries hold tokens, and answers whole keys."""
    if _is_of_the_network(problem):
        request = getattr(problem.__context__, "request", None)
        host = urlsplit(request.url).hostname if request else "there"
        return f"no answer from {host} ({type(problem.__context__).__name__})"
    text, _, answer = str(problem).partition("result:")
    said = re.findall(r'"(?:Code|Message)"\s*:\s*"([^"]*)"', answer)
    text = re.sub(r"//[^/\s]*@", "//…@", re.sub(r"\?\S*", "?…", text))
    return " ".join([*text.split(), *said])[:300]
