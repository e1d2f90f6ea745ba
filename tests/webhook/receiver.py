"""A receiver of webhooks, by aiohttp's server, that keeps what it is sent and answers as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from bridge.event import Event
from bridge.sinks import Outcome
from bridge.sinks.webhook import WebhookSink
from bridge.sinks.webhook.settings import WebhookSettings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SOON = 20.0
"""A deadline, in seconds from now, that no test reaches which works."""


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes


Answer = Callable[[Received], Awaitable[web.StreamResponse] | web.StreamResponse]


def answers(status: int, headers: Mapping[str, str] | None = None, text: str = "") -> Answer:
    return lambda _: web.Response(status=status, headers=headers, text=text)


@dataclass
class Receiver:
    """What has come, and how it is answered: by default with 204."""

    url: str = ""
    answer: Answer = field(default=answers(204))
    requests: list[Received] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    connections: set[object] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        names = [name.lower() for name in request.headers]
        assert len(names) == len({*names}), f"a header came twice: {names}"
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, request.path_qs, headers, await request.read())
        self.requests.append(received)
        self.connections.add(request.transport)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.answer(received)
            return answer if isinstance(answer, web.StreamResponse) else await answer
        finally:
            self.at_once -= 1

    @property
    def ids(self) -> list[str]:
        """The `webhook-id` of each request."""
        return [request.headers["webhook-id"] for request in self.requests]

    @property
    def last(self) -> Received:
        return self.requests[-1]


@asynccontextmanager
async def receiving(*, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
    await site.start()
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(url: str, *, wall_clock: Callable[[], float] | None = None, **settings: object) -> AsyncIterator[WebhookSink]:
    """A sink for that URL, open; settings as the environment gives them, by their names."""
    given = WebhookSettings.model_validate({"url": url, **settings})
    sink = WebhookSink(given, wall_clock=wall_clock) if wall_clock else WebhookSink(given)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def send(sink: WebhookSink, *events: Event, within: float = SOON) -> list[Outcome]:
    return list(await sink.send(events, asyncio.get_running_loop().time() + within))


def text_of(model: BaseModel) -> str:
    """Everything that is said of a model when it is printed."""
    return f"{model} {model!r} {model.model_dump()}"
