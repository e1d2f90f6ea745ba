"""One request and one answer over aiohttp's connections, without its session.

Its connector finds, opens and keeps connections, through TLS and proxies, and the protocol of a connection reads HTTP. What a
session does besides nobody needs here: cookies, redirects, merging headers, and sending a request again, which a poll or an
ack must never be (protocol.md 9). It took a third of what a poll and its ack took (docs/performance.md).
"""

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from bridge.errors import FixSettingsError

KEEPALIVE_SECONDS = 60.0

_INTERIM = frozenset(range(100, 200)) - {HTTPStatus.SWITCHING_PROTOCOLS}  # the answer itself comes after such a one


class CutError(aiohttp.ClientError):
    """The connection broke after the request had gone out, and before its answer began."""


class NotSentError(aiohttp.ClientError):
    """No request went out; the text says why."""


class TooLargeError(aiohttp.ClientError):
    """An answer is larger than it may be."""


@dataclass(slots=True)
class Answer:
    """One answer; `date` is its header of that name."""

    status: int
    date: str | None
    body: bytes
    announced: bool
    """Whether it was said beforehand where its body ends; if not, it ends where the connection does, cut or not."""


class Connections:
    """Connections to `endpoint`, a URL without path, of which there are at most `limit`. Made inside the event loop."""

    def __init__(
        self, endpoint: str, *, limit: int, proxy: str | None, ssl: SSLContext | bool, headers: Mapping[str, str]
    ) -> None:
        self._limit = limit
        self._connector = aiohttp.TCPConnector(limit=limit, ssl=ssl, keepalive_timeout=KEEPALIVE_SECONDS)
        # It is never sent: aiohttp's connector knows by it where to connect to, and by what way.
        self._way = aiohttp.ClientRequest(
            "GET", URL(endpoint), proxy=URL(proxy) if proxy else None, loop=asyncio.get_running_loop()
        )
        self._headers = {"Host": self._way.headers["Host"], **headers}
        self._before_target = ""
        forwarding = None if self._way.is_ssl() else self._way.proxy
        if forwarding:  # it is sent the request itself, with the whole URL; any other proxy only makes a tunnel
            self._before_target = endpoint
            if forwarding.raw_user or forwarding.raw_password:  # in Latin-1, as aiohttp has it for tunnels
                login, password = forwarding.user or "", forwarding.password or ""
                self._headers["Proxy-Authorization"] = aiohttp.encode_basic_auth(login, password, "latin1")

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()

    def head(self, method: str, target: str, headers: Mapping[str, str]) -> bytes:
        """The beginning of a request, to which `exchange` adds the end.

        Raises FixSettingsError for a header that would end before its value does.
        """
        lines = [f"{method} {self._before_target}{target} HTTP/1.1"]
        for name, value in {**self._headers, **headers}.items():
            if not value.isprintable():
                raise FixSettingsError(f"what is to be sent as {name} holds a line break or another control character")
            lines.append(f"{name}: {value}")
        return "\r\n".join((*lines, "")).encode()

    async def exchange(self, head: bytes, body: bytes, limits: aiohttp.ClientTimeout, max_bytes: int) -> Answer:
        """Send a request once, whatever happens, and read its answer of at most `max_bytes`.

        `limits` holds `total`, `connect` (TLS included) and `sock_read`. Raises NotSentError, CutError, TooLargeError,
        ConnectionTimeoutError, TimeoutError, and what else aiohttp raises. Unless it returns, the connection is closed.
        """
        async with asyncio.timeout(limits.total):
            connection = await self._connect(limits)
            try:
                protocol, transport = connection.protocol, connection.transport
                assert protocol is not None
                assert transport is not None
                protocol.set_response_params(
                    read_until_eof=True,
                    auto_decompress=False,  # an answer is read to a bound in bytes, so it must not unfold
                    read_timeout=limits.sock_read,
                )
                transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body) if body else head + b"\r\n")
                protocol.start_timeout()
                try:
                    message, content = await protocol.read()
                    while message.code in _INTERIM:
                        message, content = await protocol.read()
                except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as problem:
                    raise CutError(str(problem)) from problem
                answer = Answer(
                    message.code,
                    message.headers.get("Date"),
                    await _read(message, content, max_bytes),
                    announced=message.chunked or "Content-Length" in message.headers,
                )
            except BaseException:
                connection.close()
                raise
        connection.release()
        return answer

    async def _connect(self, limits: aiohttp.ClientTimeout) -> Connection:
        try:
            for _ in range(self._limit + 1):  # so many may lie idle
                connection = await self._connector.connect(self._way, [], limits)
                if connection.protocol is not None and not connection.protocol.should_close:
                    return connection
                connection.close()  # something came while nobody had asked, and would be taken for the answer
        except TimeoutError as problem:
            raise aiohttp.ConnectionTimeoutError(str(problem)) from problem
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError):
            # The text of the last shows the proxy's password.
            raise NotSentError("the proxy makes no tunnel; does HTTPS_PROXY name a proxy that speaks HTTP?") from None
        raise NotSentError("what is there speaks before it is asked, so it is no HTTP server")


async def _read(message: RawResponseMessage, content: StreamReader, max_bytes: int) -> bytes:
    declared = message.headers.get("Content-Length")
    if declared is None or int(declared) <= max_bytes:
        read = io.BytesIO()  # which gives away what it holds without a copy
        while not content.at_eof():
            if read.write(await content.readany()) and read.tell() > max_bytes:
                break
        else:
            return read.getvalue()
    raise TooLargeError(f"{max_bytes:,} bytes")
