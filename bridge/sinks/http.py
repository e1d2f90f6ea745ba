"""A thin aiohttp shell for sinks: one request, one answer, every wait and every read bounded; driver errors end here."""

import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from bridge import __version__
from bridge.environment import proxy_for, without_credentials
from bridge.errors import SinkDownError, TryAgainError

MAX_ANSWER_BYTES = 16_384
"""An answer is read so far: its status decides, and the rest says a person why."""
CONNECT_SECONDS = 5.0
KEEPALIVE_SECONDS = 4.0
"""Just under the five seconds after which many servers close an idle connection: a POST that meets that is sent again."""
_PIECE_BYTES: Final = 65_536
"""A larger body is written piece by piece, as in one it would hold up the loop, and be copied."""
_SHOWN_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of HTTP: its status, its headers by their names in any case, and as much of its body as was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - as it is called

    def said(self, hidden: Iterable[str] = ()) -> str:
        """The status, and how the body begins, in one line; what is `hidden` is cut out, as some receivers repeat it."""
        try:
            status = f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            status = str(self.status)
        text = self.body.decode(errors="replace")
        for secret in sorted(filter(None, hidden), key=len, reverse=True):
            text = text.replace(secret, "…")
        text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        if len(text) > _SHOWN_CHARACTERS:
            text = f"{text[:_SHOWN_CHARACTERS]}…"
        return f"{status}: {text}" if text else status


class Http:
    """Requests to one server, on kept connections, of which there are at most so many.

    `setting` names where its URL is set, `ca_setting` its CA, and `certificate_setting` what we show, if there is such a
    setting: errors say where to look. Made inside the event loop. Raises FixSettingsError for proxy variables that can't be
    used.
    """

    def __init__(
        self,
        url: URL,
        setting: str,
        *,
        tls: Callable[[], ssl.SSLContext | bool],
        max_connections: int,
        ca_setting: str = "CA_FILE",
        certificate_setting: str | None = "CLIENT_CERT_FILE",
    ) -> None:
        self._setting = setting
        self._ca_setting = ca_setting
        self._certificate_setting = certificate_setting
        self._tls = tls
        self._proxy = proxy_for(str(url))
        # Proxies are given here: trust_env would also read ~/.netrc for each request and replace our Authorization.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEPALIVE_SECONDS),
            # an answer is read to a bound in bytes, so it must not unfold
            headers={"Accept-Encoding": "identity", "User-Agent": f"rocketmq-bridge/{__version__}"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def exchange(
        self, method: str, url: URL, *, headers: Mapping[str, str], timeout_seconds: float, body: bytes = b""
    ) -> Answer:
        """The answer to one request, as far as it was read.

        Raises SinkDownError when the server could not be reached, so that it has seen nothing of the request, and TryAgainError
        when no whole answer came in time.
        """
        limits = _limits(timeout_seconds)
        try:
            async with self._session.request(
                method,
                url,
                data=(body or None) if len(body) <= _PIECE_BYTES else _pieces(body),
                headers=headers if len(body) <= _PIECE_BYTES else {**headers, "Content-Length": str(len(body))},
                timeout=limits,
                ssl=self._tls(),
                proxy=self._proxy,
                allow_redirects=False,
            ) as response:
                return Answer(status=response.status, headers=response.headers, body=await _read(response))
        except aiohttp.ClientHttpProxyError as problem:  # its own text shows the proxy's password
            raise SinkDownError(f"the proxy refuses ({problem.status}); check HTTPS_PROXY and its user") from None
        except aiohttp.ClientProxyConnectionError as problem:
            raise SinkDownError(f"no connection to the proxy {problem.host}:{problem.port}; check HTTPS_PROXY") from None
        except aiohttp.ClientConnectorError as problem:
            raise SinkDownError(self._unreachable(problem, url)) from problem
        except aiohttp.ConnectionTimeoutError as problem:
            raise SinkDownError(f"no connection to {url.host}:{url.port} within {limits.connect:g} s") from problem
        except TimeoutError as problem:
            raise TryAgainError(f"no whole answer within {timeout_seconds:g} s", answer_lost=True) from problem
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            if alert := _tls_alert(problem):
                see = self._certificate_setting or self._setting
                raise SinkDownError(f"{url.host}:{url.port} ends TLS: {alert}; see {see}") from problem
            what = f"{type(problem).__name__}: {without_credentials(str(problem))}"
            raise TryAgainError(f"the answer broke off or is no HTTP: {what}", answer_lost=True) from problem

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _unreachable(self, problem: aiohttp.ClientConnectorError, url: URL) -> str:
        where, setting, certificate = f"{problem.host}:{problem.port}", self._setting, self._certificate_setting
        if isinstance(problem, aiohttp.ClientConnectorDNSError):
            return f"the name {problem.host} does not resolve; check {setting}"
        if isinstance(problem, aiohttp.ClientConnectorCertificateError):
            return f"the certificate of {where} is not trusted ({problem.certificate_error}); see {self._ca_setting}"
        if isinstance(problem, aiohttp.ClientConnectorSSLError):
            or_else = f", or see {certificate}" if certificate else ""
            return f"no TLS with {where} ({problem.os_error}); is {setting} https on a plain port{or_else}"
        if certificate and url.scheme == "https" and isinstance(problem.os_error, ConnectionResetError):
            return f"{where} cuts the connection while TLS begins; see {certificate}"
        return f"no connection to {where}: {problem.os_error}; check {setting}"


def basic(username: str, password: str) -> str:
    """The value of `Authorization` for a user and a password (RFC 7617)."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


@lru_cache(maxsize=8)
def _limits(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, connect=min(CONNECT_SECONDS, seconds / 2))


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content, read = response.content, bytearray()
    while not content.at_eof():
        read += await content.readany()
        if len(read) > MAX_ANSWER_BYTES:
            response.close()
            break
    return bytes(read[:MAX_ANSWER_BYTES])


def _tls_alert(problem: BaseException | None) -> str | None:
    """What the other side said to end TLS; in TLS 1.3 it misses a client certificate only after the handshake."""
    while problem is not None:
        if isinstance(problem, ssl.SSLError) or "[SSL: " in str(problem):
            found = re.search(r"alert ([a-z ]+)", str(problem))
            return found[1].strip() if found else None
        problem = problem.__cause__
    return None


def url_of(text: str) -> URL:
    """A URL as it is sent: one that is ASCII is taken literally, as signatures in a query break when it is rewritten."""
    return URL(text, encoded=text.isascii())


def plausible_url(value: str) -> str:
    """The URL itself, for a setting. Raises ValueError, which never repeats it, when nothing could be sent there."""
    if not re.fullmatch(r"(?i)https?://\S+", value):
        raise ValueError("should begin with http:// or https:// and name a host, without spaces")
    try:
        url = url_of(value)
        port = url.port
    except ValueError:  # its text repeats the URL, user information and all
        raise ValueError("should be a URL with a valid host and port") from None
    if not url.host or port is None:
        raise ValueError("should name a host")
    if url.raw_fragment:
        raise ValueError("should be without a fragment (#…), which is never sent")
    return value
