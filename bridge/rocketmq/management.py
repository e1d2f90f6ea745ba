"""The management API (product Ons, version 2019-02-14; protocol.md 8), asked through the official SDK."""

import asyncio
import importlib
import importlib.util
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from bridge.errors import BridgeError, BrokenAnswerError, FixSettingsError, MissingExtraError, ThrottledError, TryAgainError
from bridge.rocketmq.credentials import Credentials, CredentialsNow
from bridge.watch.consumer import MAX_CONNECTIONS, Backlog, Connection, Listed

T = TypeVar("T")

CALL_SECONDS = 15.0
"""How long a call may take; the SDK itself waits 5 s for a connection and 10 s for each piece of an answer."""

_SLACK_SECONDS = 1.0
"""How much longer we wait for the thread than the thread for the service."""

MAX_TEXT = 200
"""The longest text that is taken over from an answer, in characters."""

MAX_COUNT = 2**63
"""A count is a long, says the SDK."""

_NOT_ONLINE = "BIZ_CONSUMER_NOT_ONLINE"

_ADVICE = {
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "IncompleteSignature", "InvalidSecurityToken", "MissingSecurityToken"): (
        "check BRIDGE_ROCKETMQ__ACCESS_KEY_ID, __ACCESS_KEY_SECRET and __SECURITY_TOKEN"
    ),
    ("AUTH_", "NoPermission", "Forbidden", "Unauthorized", "AccessDenied"): "allow the RAM action {permission}",
    ("InvalidTimeStamp", "IllegalTimestamp"): "set this machine's clock",
    ("INSTANCE_NOT_FOUND", "BIZ_SUBSCRIPTION_NOT_FOUND", "BIZ_TOPIC_NOT_FOUND"): (
        "check BRIDGE_ROCKETMQ__INSTANCE_ID and __GROUP_ID, and that they are in the region that is asked"
    ),
}
"""What a person should do, by how the code begins (protocol.md 8.4; the first three are codes of every Alibaba Cloud API)."""


def endpoint_for(*, endpoint: str | None, region: str | None) -> str:
    """Where to ask. The SDK's own map of regions isn't used: it sends some of them elsewhere (protocol.md 8.5).

    Raises FixSettingsError when neither is known.
    """
    if endpoint is not None:
        return endpoint if "://" in endpoint else f"https://{endpoint}"
    if region is None:
        raise FixSettingsError(
            "BRIDGE_MANAGEMENT__REGION is not set, and the name of BRIDGE_ROCKETMQ__ENDPOINT doesn't tell the region: "
            "set it, as cn-hangzhou, or BRIDGE_MANAGEMENT__ENDPOINT"
        )
    return f"https://ons.{region}.aliyuncs.com"


class _Nothing(str):
    """Empty, and yet true: for what is false the SDK takes the environment's proxy, and heeds no `NO_PROXY`."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


_NO_PROXY: Final = _Nothing()


class ManagementApi:
    """Asks about one consumer group.

    Its questions raise ThrottledError; FixSettingsError for what only a person can mend, as a permission; TryAgainError for
    what may pass; BrokenAnswerError for what is no answer. The texts say what to do.

    The SDK blocks, for all that its methods are asynchronous: its import takes up to a second, and each call makes a TLS
    context anew. So it has a thread of its own with an event loop of its own, and whatever happens there, `call_seconds` later
    the caller is free again.

    `endpoint` is a URL, scheme and host; `credentials` are asked for each call. Raises MissingExtraError when the SDK isn't
    installed.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: CredentialsNow,
        *,
        group: str,
        instance: str | None,
        proxy: str | None = None,
        ca_file: Path | None = None,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        if importlib.util.find_spec("alibabacloud_ons20190214") is None:
            raise MissingExtraError('BRIDGE_MANAGEMENT__ENABLED needs its extra: pip install "rocketmq-bridge[management]"')
        scheme, _, self.host = endpoint.rstrip("/").partition("://")
        self._config = {
            "endpoint": self.host,
            "protocol": scheme.upper(),
            "http_proxy": proxy or _NO_PROXY,
            "https_proxy": proxy or _NO_PROXY,
            "ca": str(ca_file) if ca_file else None,
        }
        self._credentials = credentials
        self._parameters = {"group_id": group, "instance_id": instance}
        self._call_seconds = call_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="management")

    def close(self) -> None:
        """Ask no more; nobody waits for a call that is still out."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def connections(self) -> Listed:
        """Who is connected; nobody, whichever of its two ways the service has to say so (protocol.md 8.4)."""
        try:
            return await self._ask(GET_CONNECTION, listed)
        except _NobodyOnlineError:
            return Listed()

    async def backlog(self) -> Backlog:
        """How far the group is behind."""
        return await self._ask(ACCUMULATE, backlog)

    async def _ask(self, operation: "Operation", read: Callable[[Any], T]) -> T:
        """What is read from the `Data` of an answer, in the SDK's model of it; that may be None, or hold anything."""
        credentials = self._credentials()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._call_seconds + _SLACK_SECONDS):
                answer = await loop.run_in_executor(self._thread, self._call, operation, credentials)
            body = answer.body
            read_data = read(body.data) if body is not None and body.request_id else None
        except TimeoutError:
            raise TryAgainError(f"{operation.name}: no answer from {self.host} within {self._call_seconds:g} s") from None
        except Exception as problem:  # noqa: BLE001 - whatever the SDK's parts raise, there is no answer
            raise explained(problem, operation, self.host) from None
        if read_data is None:  # the SDK makes an empty model of any JSON
            raise _broken(operation, self.host, "JSON of another form")
        return read_data

    def _call(self, operation: "Operation", credentials: Credentials) -> Any:
        """Call the service; in the thread."""
        client: Any = importlib.import_module("alibabacloud_ons20190214.client")
        models: Any = importlib.import_module("alibabacloud_ons20190214.models")
        utils: Any = importlib.import_module("alibabacloud_tea_openapi.utils_models")
        config = utils.Config(
            access_key_id=credentials.access_key_id,
            access_key_secret=credentials.access_key_secret,
            security_token=credentials.security_token,
            **self._config,
        )
        request = getattr(models, f"{operation.name}Request")(**self._parameters)
        call: Callable[[Any], Awaitable[Any]] = getattr(client.Client(config), operation.method)

        async def within_bounds() -> Any:
            async with asyncio.timeout(self._call_seconds):
                return await call(request)

        return asyncio.run(within_bounds())


def listed(data: Any) -> Listed:
    """Who is connected, from the `Data` of OnsConsumerGetConnection."""
    found = [item for item in _at(data, "connection_list", "connection_do") or [] if item is not None]
    connections = [
        Connection(
            client_id=_text(item.client_id),
            address=_text(item.client_addr),
            language=_text(item.language),
            version=_text(item.version),
        )
        for item in found[:MAX_CONNECTIONS]
    ]
    return Listed(connections=tuple(connections), number=len(found), model=_text(_at(data, "message_model")) or None)


def backlog(data: Any) -> Backlog:
    """How far behind, from the `Data` of OnsConsumerAccumulate."""
    online, delay = _at(data, "online"), _count(_at(data, "delay_time"))
    return Backlog(
        online=online if isinstance(online, bool) else None,
        messages=_count(_at(data, "total_diff")),
        delay_seconds=None if delay is None else delay / 1000,
    )


class Operation(NamedTuple):
    """What is asked."""

    name: str
    method: str
    """The SDK's."""
    permission: str
    """The RAM action (protocol.md 8.5)."""


GET_CONNECTION = Operation(
    "OnsConsumerGetConnection", "ons_consumer_get_connection_async", permission="mq:QueryConsumerConnection"
)
ACCUMULATE = Operation("OnsConsumerAccumulate", "ons_consumer_accumulate_async", permission="mq:QueryConsumerAccumulate")


class _NobodyOnlineError(BridgeError):
    """The service says so with an error."""


def explained(problem: Any, operation: Operation, host: str) -> BridgeError:
    """The SDK's exception as one of ours (protocol.md 8.4)."""
    code, status, data = (getattr(problem, name, None) for name in ("code", "status_code", "data"))
    if code is None or status is None:  # an UnretryableException: what the SDK ran into before it had an answer
        cause = getattr(problem, "inner_exception", None) or problem
        if type(cause).__name__ == "RetryError" or type(cause).__module__.startswith("aiohttp."):
            return TryAgainError(f"{operation.name}: no answer from {host}: {_text(getattr(cause, 'message', None) or cause)}")
        return _broken(operation, host, type(cause).__name__)
    code = _text(code)
    if code == _NOT_ONLINE:
        return _NobodyOnlineError(code)
    said = f"{operation.name}: {host} answers {status} {code}: {_text(data.get('Message') if isinstance(data, dict) else data)}"
    if code.startswith("Throttling") or type(problem).__name__ == "ThrottlingException":
        return ThrottledError(f"{said}; the account has 10 calls a second: perhaps raise BRIDGE_MANAGEMENT__INTERVAL_SECONDS")
    for beginnings, advice in _ADVICE.items():
        if code.startswith(beginnings):
            return FixSettingsError(f"{said}; {advice.format(permission=operation.permission)}", code=code)
    return TryAgainError(said)


def _broken(operation: Operation, host: str, why: str) -> BrokenAnswerError:
    return BrokenAnswerError(f"{operation.name}: {host} answers with what is no answer of the management API ({why})")


def _at(model: Any, *names: str) -> Any:
    for name in names:
        model = getattr(model, name, None)
    return model


def _count(value: object) -> int | None:
    """A number of something; None for what can be none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT else None


def _text(value: object) -> str:
    """One short line of what came from outside."""
    text = "" if value is None else re.sub(r"\s+", " ", str(value)).strip()
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
