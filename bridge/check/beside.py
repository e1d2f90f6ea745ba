"""What stands beside the delivery: the Redis of the shared ledger, and the management API."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.errors import FixSettingsError, ThrottledError, TryAgainError
from bridge.rocketmq.credentials import CredentialsNow
from bridge.service import ledger_store, management_api
from bridge.settings import RunSettings

T = TypeVar("T")

NO_MESSAGE = "not-a-message-id"
"""A real one is 32 hexadecimal digits (protocol.md 2.3)."""


async def use_ledger(settings: RunSettings) -> str:
    """Read, write and clear the entry of a message that doesn't exist, which needs the rights that real ones need.

    Raises TryAgainError, and FixSettingsError for a URL that can't be used.
    """
    store = ledger_store(settings)
    assert store, "there is a URL"
    try:
        await store.read([NO_MESSAGE])
        await store.write({NO_MESSAGE: frozenset({"check"})})
        await store.write({NO_MESSAGE: frozenset()})
    except TryAgainError as problem:
        raise TryAgainError(f"{problem}; see to the Redis of BRIDGE_LEDGER__REDIS_URL") from problem
    finally:
        await store.close()
    return "Redis can be read and written"


async def ask_management(settings: RunSettings, credentials: CredentialsNow) -> str:
    """Ask both questions that `bridge run` asks. Raises TryAgainError and FixSettingsError."""
    api = management_api(settings, credentials)
    try:
        listed, backlog = await _unless_new(api.connections), await _unless_new(api.backlog)
    except ThrottledError:
        raise
    except TryAgainError as problem:
        raise TryAgainError(f"{problem}; check BRIDGE_MANAGEMENT__ENDPOINT and __REGION") from problem
    finally:
        api.close()
    if listed is None or backlog is None:
        return f"{api.host} answers that nobody has consumed as {settings.rocketmq.group_id} so far"
    messages = "an unknown number of" if backlog.messages is None else f"{backlog.messages:,}"
    return f"{api.host} counts {listed.number} consumers online, and {messages} messages to be consumed"


async def _unless_new(ask: Callable[[], Awaitable[T]]) -> T | None:
    """An answer; None for a group that has never polled, as before the first deploy."""
    try:
        return await ask()
    except FixSettingsError as problem:
        if problem.code == "BIZ_SUBSCRIPTION_NOT_FOUND":
            return None
        raise
