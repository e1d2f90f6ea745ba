"""The emulator's HTTP face."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping
from email.utils import formatdate
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from bridge.emulator.api import AccessKey, Answer, Api, Request, refuse
from bridge.emulator.authorization import VERSION
from bridge.emulator.broker import RETENTION, Broker, Published
from bridge.emulator.changes import Changes
from bridge.emulator.connections import Connections, Peer
from bridge.emulator.control import Control
from bridge.emulator.errors import ServiceError
from bridge.emulator.faults import Faults, hits
from bridge.emulator.interference import cut, never, stream_endlessly, trickle
from bridge.emulator.management import Management
from bridge.emulator.polls import Polls
from bridge.rocketmq.message import MAX_BODY_BYTES

_MAX_REQUEST_BODY = 8 * MAX_BODY_BYTES
"""In bytes: room for the largest message when every character of it is escaped."""

_MAX_LINE = 64 * 1024
"""In bytes: what is longer than the protocol allows is still read, so that it can be answered in XML."""

_SHUTDOWN_SECONDS = 0.05
"""How long a call in progress may still take when the emulator closes; polls are cut."""

_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


class Emulator:
    """A local ApsaraMQ for RocketMQ (HTTP protocol), for as long as the `async with` lasts.

    `port` 0 takes a free one; `url` says which, without a slash at its end. `topics` names the topics that exist; None
    lets every topic exist from its first use. `invisible_seconds` and `ordered_invisible_seconds` are the leases,
    `retention_seconds` is how long messages are kept. `faults` and the `access_key` can be changed at any time. `clock`
    tells seconds since the epoch; whoever moves an injected one calls `time_moved`. `service_properties` is explained at
    `api.Api`.
    It belongs to one event loop: nothing of it may be called from another thread.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        access_key_id: str = "AKID",
        access_key_secret: str = "SECRET",  # noqa: S107 - the well-known key of a local emulator
        topics: Collection[str] | None = None,
        invisible_seconds: float = 300.0,
        ordered_invisible_seconds: float = 60.0,
        retention_seconds: float = RETENTION / 1000,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        service_properties: bool = False,
    ) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - ids and faults need no cryptography
        self.faults = faults if faults is not None else Faults()
        self.broker = Broker(
            rng=self._rng,
            topics=topics,
            invisible=round(invisible_seconds * 1000),
            ordered_invisible=round(ordered_invisible_seconds * 1000),
            retention=round(retention_seconds * 1000),
        )
        self._changes = Changes()
        self._polls = Polls(self.broker, now=self.now, changes=self._changes)
        self.access_key = AccessKey(access_key_id, access_key_secret)
        connections = Connections()
        self.management = Management(
            self.broker, connections, access_key=self.access_key, faults=self.faults, now=self.now, rng=self._rng
        )
        self._api = Api(
            self.broker,
            self._polls,
            connections,
            access_key=self.access_key,
            faults=self.faults,
            now=self.now,
            rng=self._rng,
            service_properties=service_properties,
        )
        self._control = Control(self.broker, self.faults, access_key=self.access_key, now=self.now, changed=self.time_moved)
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Where it listens, as the endpoint that SDKs take."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def now(self) -> int:
        """The service's clock, in milliseconds since the epoch."""
        return int((self._clock() + self.faults.clock_offset_seconds) * 1000)

    def open_polls(self, instance: str | None = None) -> int:
        """How many long polls of an instance are waiting."""
        return self._polls.open(instance)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as a condition holds that calls or polls can bring about, as `book(...).acked == 500`.

        The passing of time alone, as at the end of a lease, is not noticed. Bound the wait with `asyncio.timeout`.
        """
        await self._changes.until(condition)

    def time_moved(self) -> None:
        """Serve the waiting polls: an injected clock, or its offset, has jumped."""
        self._polls.serve_all()
        self._changes.announce()

    def publish(
        self,
        topic: str,
        body: str,
        *,
        instance: str | None = None,
        tag: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Published:
        """Publish without HTTP, as a producer on another protocol would: any text, control characters included."""
        published = self.broker.publish(self.now(), topic, body, instance=instance, tag=tag, properties=properties)
        self._polls.serve_topic(instance, topic)
        self._changes.announce()
        return published

    async def start(self) -> None:
        """Listen; after `close`, on the same port again and with all messages still there.

        Raises `OSError` when the port can't be had.
        """
        server = web.Server(
            self._handle,
            request_factory=_make_request,
            handler_cancellation=True,  # a poll whose client has gone must not take messages
            access_log=None,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def close(self) -> None:
        """Cut every connection and stop listening; takes a tenth of a second at most."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._api.close()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        # Java waits three seconds for this with every write (protocol.md 0).
        if http.headers.get("Expect", "").lower() == "100-continue" and http.transport is not None:
            http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if http.path == "/" or http.path.startswith("/emulator/"):
            return await self._answer_beside(http)
        request_id = f"{self.now() // 1000:08X}{self._rng.getrandbits(64):016X}"
        # Some SDKs (C#, C++) send a body with a GET as well (protocol.md 1.4): it is read and ignored.
        try:
            body = await http.read()
        except web.HTTPRequestEntityTooLarge:
            error = ServiceError("InvalidArgument", "The request is too large.")
            answer = refuse(error, _request(http, b"", request_id))
            response = web.Response(status=answer.status, headers=self._headers(answer, request_id), body=answer.body)
            response.force_close()
            return response
        early = await self._interfere(http)
        if early is not None:
            return early
        answer = await self._api.answer(_request(http, body, request_id))
        self._changes.announce()
        if answer.lost or self._hits(self.faults.cut_after):
            await cut(http)
        if self.faults.answer_delay_seconds:
            await asyncio.sleep(self.faults.answer_delay_seconds)
        headers = self._headers(answer, request_id)
        if answer.endless:
            return await stream_endlessly(http, answer.status, headers, answer.body)
        if self.faults.trickle_seconds and answer.body:
            return await trickle(http, answer.status, headers, answer.body, pause=self.faults.trickle_seconds)
        return web.Response(status=answer.status, headers=headers, body=answer.body or None)

    async def _answer_beside(self, http: web.BaseRequest) -> web.Response:
        """The management API, and the emulator's own pages."""
        body = await http.read()
        # Action in the query is the form that this emulator refuses (protocol.md 8.1), and says so.
        is_management = http.method == "POST" or "x-acs-action" in http.headers or "Action" in http.query
        if http.path != "/" or not is_management:
            return self._control.answer(http, body)
        if self._hits(self.faults.management_stalled):
            await never()
        answer = self.management.answer(_request(http, body, ""))
        self._changes.announce()
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _interfere(self, http: web.BaseRequest) -> web.StreamResponse | None:
        """What the network and a load balancer do before the service sees a call."""
        if self._hits(self.faults.stalled):
            await never()
        if self._hits(self.faults.cut_before):
            await cut(http)
        if self._hits(self.faults.bad_gateway):
            return web.Response(status=502, body=_BAD_GATEWAY, headers={"Content-Type": "text/html"})
        if self._hits(self.faults.unavailable):
            return web.Response(status=503)
        return None

    def _headers(self, answer: Answer, request_id: str) -> dict[str, str]:
        headers = {
            # In this very spelling: Python and Java look for it (protocol.md 1.5).
            "x-mq-request-id": request_id,
            "x-mq-version": VERSION,
            "Date": formatdate(self.now() / 1000, usegmt=True),
            "Server": "rocketmq-bridge emulator",
        }
        if answer.body:
            headers["Content-Type"] = "text/xml;charset=utf-8"
        return headers

    def _hits(self, share: float) -> bool:
        return hits(share, self._rng)


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_REQUEST_BODY)


def _request(http: web.BaseRequest, body: bytes, request_id: str) -> Request:
    transport = http.transport
    address, port, *_ = (transport and transport.get_extra_info("peername")) or ("", 0)
    user_agent = http.headers.get("User-Agent", "")
    connected = (lambda: not transport.is_closing()) if transport else (lambda: False)
    return Request(
        method=http.method,
        target=http.raw_path,
        headers={name.lower(): value for name, value in http.raw_headers},
        body=body,
        peer=Peer(address=address, port=port, user_agent=user_agent, connected=connected),
        request_id=request_id,
    )
