"""Health and metrics over HTTP, from a thread of its own: when the delivery is stuck, it still answers, and says so."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bridge.errors import FixSettingsError
from bridge.fast_loop import loop_factory
from bridge.watch.event_loop import LOOK_SECONDS, StallWatch, stuck
from bridge.watch.facts import Facts
from bridge.watch.health import not_ready, report, unhealthy
from bridge.watch.history import SAMPLE_SECONDS
from bridge.watch.metrics import Exposition

CLOSE_SECONDS = 2.0
"""How long the end waits for the thread."""
IDLE_SECONDS = 75.0
"""How long nothing may be asked on a connection: longer than probes and scrapes are usually apart."""

Handler = Callable[[web.BaseRequest], web.Response]


class Face:
    """Serves /livez, /readyz, /healthz, /metrics and `page` for as long as an `async with` lasts; `port` is then where.

    Also what looks at the bridge from outside its event loop: whether that turns, and the history. `labels` stand on every
    metric. Connections on which nothing was asked for `idle_seconds` are closed. Entering it raises FixSettingsError when it
    can't listen there.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        host: str,
        port: int,
        labels: Mapping[str, str],
        page: Mapping[str, Handler] | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._facts = facts
        self._idle_seconds = idle_seconds
        self._host = host
        self.port = port
        self._routes: dict[str, Handler] = {
            "/livez": _probe(facts, stuck),
            "/readyz": _probe(facts, not_ready),
            "/healthz": _healthz(facts),
            "/metrics": _metrics(Exposition(facts, labels)),
            **(page or {}),
        }

    async def __aenter__(self) -> Self:
        """Listen."""
        listening: Future[None] = Future()
        self._ended: Future[None] = Future()
        watch = StallWatch(self._facts)
        threading.Thread(target=self._run, args=(listening, watch), name="health", daemon=True).start()
        await asyncio.wrap_future(listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the answers that are under way go out, and end."""
        with suppress(RuntimeError):  # its event loop has ended by itself
            self._end()
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=CLOSE_SECONDS)

    # ---- in the thread -----------------------------------------------------------------------------------------------

    def _run(self, listening: "Future[None]", watch: StallWatch) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve(listening, watch))
        except BaseException as problem:
            if listening.done():
                raise
            listening.set_exception(problem)
        finally:
            self._ended.set_result(None)

    async def _serve(self, listening: "Future[None]", watch: StallWatch) -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        self._end = partial(loop.call_soon_threadsafe, end.set)
        # Without an Application, whose routing would cost as much as the answer: kubelets and scrapers ask for four paths.
        server = web.Server(self._answer, access_log=None, logger=_log, keepalive_timeout=self._idle_seconds)
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self.port).start()
            except (OSError, UnicodeError) as problem:  # UnicodeError: a host that can be no name
                what = getattr(problem, "strerror", None) or problem
                raise FixSettingsError(
                    f"BRIDGE_HTTP__HOST and __PORT: listening on {self._host} port {self.port}: {what}; "
                    "name another, or port 0 for any"
                ) from problem
            self.port = int(runner.addresses[0][1])
            listening.set_result(None)
            await self._look_on(end, watch)
        finally:
            await runner.cleanup()

    async def _look_on(self, end: asyncio.Event, watch: StallWatch) -> None:
        """Until the end: see whether the delivery's event loop turns, and keep the history."""
        facts = self._facts
        while not end.is_set():
            facts.history.add(facts.sample())
            for _ in range(round(SAMPLE_SECONDS / LOOK_SECONDS)):
                try:
                    await asyncio.wait_for(end.wait(), LOOK_SECONDS)
                except TimeoutError:
                    watch.look()
                else:
                    break

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        handler = self._routes.get(request.path)
        if handler is None:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="there is " + ", ".join(self._routes) + "\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        return handler(request)


def _probe(facts: Facts, fault: Callable[[Facts], str | None]) -> Handler:
    def handle(_: web.BaseRequest) -> web.Response:
        reason = fault(facts)
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    return handle


def _healthz(facts: Facts) -> Handler:
    def handle(_: web.BaseRequest) -> web.Response:
        body = orjson.dumps(report(facts), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return web.Response(status=503 if unhealthy(facts) else 200, body=body, content_type="application/json")

    return handle


def _metrics(exposition: Exposition) -> Handler:
    def handle(request: web.BaseRequest) -> web.Response:
        body, content_type = exposition.text(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return handle


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a log record is about a fault of ours, and not about somebody who sends what is no HTTP, as port scanners do."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger("bridge.health")
_log.addFilter(_is_ours)
