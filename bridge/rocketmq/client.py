"""A thin HTTP shell around the codec: three calls, every wait and every read bounded."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from ssl import SSLContext
from types import MappingProxyType, TracebackType
from typing import Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from bridge import __version__
from bridge.errors import BrokenAnswerError, FixSettingsError, TryAgainError
from bridge.rocketmq import codec, signing
from bridge.rocketmq.codec import AckFailure, Published, Request, Subscription
from bridge.rocketmq.connections import Connections, CutError, NotSentError, TooLargeError
from bridge.rocketmq.credentials import Credentials, CredentialsNow
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message

_SMALL_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the service may take, in seconds, before a call ends with TryAgainError."""

    connect: float = 5.0
    """For a connection, its TLS handshake included."""
    silence: float = 5.0
    """Without a byte of a poll's answer, beyond what the poll holds on for. At least 3 (protocol.md 10, point 39)."""
    poll: float = 30.0
    """For the whole answer to a poll, beyond what it holds on for, however steadily it trickles in."""
    write_silence: float = 10.0
    """Without a byte of the answer to an ack or a publish."""
    write: float = 15.0
    """For the whole answer to an ack or a publish."""


_PATIENCE = Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """One finished poll. Local instants are seconds of the client's monotonic clock."""

    messages: tuple[Message | Damaged, ...]
    """Empty when there was none to deliver."""
    sent_at: float
    received_at: float


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    announced: bool
    server_time: float | None
    sent_at: float
    received_at: float

    @property
    def says_time_expired(self) -> bool:
        return self.status == 408 and b"TimeExpired" in self.body  # noqa: PLR2004 - the status of protocol.md 7


class Client:
    """Polls, acks and publishes at one endpoint, such as `http://<account>.mqrest.<region>.aliyuncs.com`.

    `on_date` is told what the Date header of each answer said, in seconds since the epoch, and the local instants at which
    the request went out and the answer was there, in seconds of `monotonic`. `on_messages` is given what each poll brings.

    `renew` is asked when the service refuses credentials, and tells whether `credentials` gives others now; if so, the call is
    made once more, which can't hurt: what is refused has had no effect.

    Every call raises what `bridge.rocketmq.codec` raises, and TryAgainError when no whole answer came; its `answer_lost` tells
    whether the request may have had its effect. A call that is cancelled closes its connection; a poll that is cut so may have
    taken messages along, which the broker delivers again when their lease ends.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: CredentialsNow,
        *,
        max_connections: int,
        proxy: str | None = None,
        ssl: SSLContext | bool = True,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        renew: Callable[[Credentials], Awaitable[bool]] | None = None,
        on_date: Callable[[float, float, float], None] | None = None,
        on_messages: Callable[[Sequence[Message | Damaged]], None] | None = None,
        patience: Patience = _PATIENCE,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._proxy = proxy
        self._ssl = ssl
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._renew = renew
        self._on_date = on_date
        self._on_messages = on_messages
        self._patience = patience
        self._write_limits = aiohttp.ClientTimeout(
            total=patience.write, connect=patience.connect, sock_read=patience.write_silence
        )
        self._max_connections = max_connections
        self._signed: dict[tuple[str, str], bytes] = {}  # heads of requests by method and target, of `_signed_at`
        self._signed_at: tuple[str, Credentials] | None = None
        self._connections: Connections | None = None

    async def __aenter__(self) -> Self:
        """Nothing is connected before the first call."""
        self._connections = Connections(
            self._endpoint,
            limit=self._max_connections,
            proxy=self._proxy,
            ssl=self._ssl,
            headers={
                "Accept-Encoding": "identity",
                "User-Agent": f"rocketmq-bridge/{__version__}",
                "x-mq-version": signing.VERSION,
            },
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        if self._connections:
            await self._connections.close()

    async def poll(self, subscription: Subscription, *, max_messages: int, wait_seconds: int) -> Polled:
        """Ask for 1 to 16 messages, holding on for 0 to 30 seconds until there is one."""
        request, limits = subscription.poll(max_messages, wait_seconds), _poll_limits(self._patience, wait_seconds)
        answer = await self._call(request, limits, codec.max_answer_bytes(max_messages), "polling")
        if not answer.announced and b"<Messages" in answer.body and not answer.body.rstrip().endswith(b"</Messages>"):
            raise TryAgainError("polling: the connection was closed in the middle of the answer", answer_lost=True)
        messages = codec.read_poll(answer.status, answer.body)
        if messages and self._on_messages:
            self._on_messages(messages)
        return Polled(messages=messages, sent_at=answer.sent_at, received_at=answer.received_at)

    async def ack(self, subscription: Subscription, receipt_handles: Sequence[str]) -> tuple[AckFailure, ...]:
        """Acknowledge 1 to 16 deliveries; what is returned was not accepted, everything else was."""
        answer = await self._call(subscription.ack(receipt_handles), self._write_limits, _SMALL_ANSWER_BYTES, "acknowledging")
        return codec.read_ack(answer.status, answer.body, receipt_handles)

    async def publish(
        self,
        topic: str,
        *,
        body: str,
        instance: str | None = None,
        tag: str | None = None,
        properties: Mapping[str, str] = MappingProxyType({}),
    ) -> Published:
        """Publish one message. Not idempotent: after a TryAgainError with `answer_lost`, trying again may publish it twice."""
        request = codec.publish(topic, body=body, instance=instance, tag=tag, properties=properties)
        answer = await self._call(request, self._write_limits, _SMALL_ANSWER_BYTES, "publishing")
        return codec.read_publish(answer.status, answer.body)

    async def _call(self, request: Request, limits: aiohttp.ClientTimeout, max_bytes: int, doing: str) -> _Answer:
        """One request with one answer; one more when the service refuses its date or its key, and there is a better one."""
        credentials = self._credentials()
        answer = await self._exchange(request, credentials, limits, max_bytes, doing)
        if answer.status == HTTPStatus.FORBIDDEN and self._renew and await self._renew(credentials):
            answer = await self._exchange(request, self._credentials(), limits, max_bytes, doing)
        if answer.says_time_expired:  # protocol.md 7: once again, with a fresh date
            answer = await self._exchange(request, self._credentials(), limits, max_bytes, doing)
            if answer.says_time_expired and answer.server_time is not None:
                difference = self._wall_clock() - answer.server_time
                raise FixSettingsError(
                    f"{doing}: the service says TimeExpired: this machine's clock is {abs(difference):,.0f} s "
                    f"{'ahead of' if difference > 0 else 'behind'} the service's, and 15 minutes are allowed; set the clock",
                    code="TimeExpired",
                )
        return answer

    async def _exchange(
        self, request: Request, credentials: Credentials, limits: aiohttp.ClientTimeout, max_bytes: int, doing: str
    ) -> _Answer:
        assert self._connections, "a Client is used inside `async with`"
        sent_at = self._monotonic()
        try:
            head = self._head(self._connections, request, credentials)
            got = await self._connections.exchange(head, request.body, limits, max_bytes)
            answer = _Answer(got.status, got.body, got.announced, _instant(got.date), sent_at, self._monotonic())
        except aiohttp.ClientHttpProxyError as problem:  # its own text shows the proxy's password
            raise TryAgainError(f"{doing}: the proxy refuses ({problem.status}); check HTTPS_PROXY and its user") from None
        except NotSentError as problem:
            raise TryAgainError(f"{doing}: {problem}") from None
        except aiohttp.ClientConnectorError as problem:
            raise TryAgainError(f"{doing}: {_unreachable(problem)}") from problem
        except aiohttp.ConnectionTimeoutError as problem:
            raise TryAgainError(f"{doing}: no connection within {self._patience.connect:g} s") from problem
        except TimeoutError as problem:
            raise TryAgainError(f"{doing}: no whole answer in time", answer_lost=True) from problem
        except CutError as problem:
            raise TryAgainError(
                f"{doing}: the connection was closed without an answer; if that goes on, is BRIDGE_ROCKETMQ__ENDPOINT "
                "the HTTP endpoint (…mqrest…) and not the TCP one, and http or https as it should be?",
                answer_lost=True,
            ) from problem
        except TooLargeError as problem:
            raise BrokenAnswerError(
                f"{doing}: the answer is larger than {max_bytes:,} bytes, more than the protocol allows", answer_lost=True
            ) from problem
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as problem:
            what = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
            raise TryAgainError(f"{doing}: the answer broke off or is no HTTP: {what}", answer_lost=True) from problem

        if self._on_date and answer.server_time is not None:
            self._on_date(answer.server_time, answer.sent_at, answer.received_at)
        return answer

    def _head(self, connections: Connections, request: Request, credentials: Credentials) -> bytes:
        """What all requests of this second to one target have in common: their signatures are the same (protocol.md 1.2)."""
        date = _http_date(int(self._wall_clock()))
        if self._signed_at != (date, credentials):
            self._signed_at = date, credentials
            self._signed.clear()
        head = self._signed.get((request.method, request.target))
        if head is None:
            headers = _signed_headers(request, credentials, date)
            head = self._signed[request.method, request.target] = connections.head(request.method, request.target, headers)
        return head


def _signed_headers(request: Request, credentials: Credentials, date: str) -> dict[str, str]:
    text = signing.string_to_sign(method=request.method, content_type=request.content_type, date=date, target=request.target)
    authorization = signing.authorization(credentials.access_key_id, credentials.access_key_secret, text)
    headers = {"Date": date, "Authorization": authorization}
    if request.content_type:
        headers["Content-Type"] = request.content_type
    if credentials.security_token:
        headers["security-token"] = credentials.security_token
    return headers


@lru_cache(maxsize=64)
def _poll_limits(patience: Patience, wait_seconds: int) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=wait_seconds + patience.poll, connect=patience.connect, sock_read=wait_seconds + patience.silence
    )


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


@lru_cache(maxsize=4)  # many answers bear the same
def _instant(date: str | None) -> float | None:
    """A Date header as seconds since the epoch; None when there is none that can be read."""
    try:
        instant = parsedate_to_datetime(date) if date else None
    except (ValueError, OverflowError):
        return None
    # Without a zone it is UTC, as every date of HTTP (RFC 9110, 5.6.7), and not this machine's time.
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() if instant else None


def _unreachable(problem: aiohttp.ClientConnectorError) -> str:
    where = f"{problem.host}:{problem.port}"
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return f"the name {problem.host} does not resolve; check BRIDGE_ROCKETMQ__ENDPOINT"
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        return f"the certificate of {where} is not trusted ({problem.certificate_error}); see BRIDGE_ROCKETMQ__CA_FILE"
    if isinstance(problem, aiohttp.ClientConnectorSSLError):
        return f"no TLS with {where} ({problem.os_error}); is BRIDGE_ROCKETMQ__ENDPOINT https on a plain port?"
    return f"no connection to {where}: {problem.os_error}"
