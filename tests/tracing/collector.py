"""An OTLP collector in the process of the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from outside.command import PATIENCE_SECONDS


@dataclass(frozen=True)
class Seen:
    """A span, as the collector got it."""

    service: str
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def trace(self) -> str:
        return self.span.trace_id.hex()

    @property
    def id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        return self.span.parent_span_id.hex()

    def is_named_by(self, traceparent: str) -> bool:
        """Whether a header is about it (W3C Trace Context, 3.2)."""
        return traceparent.split("-")[:3] == ["00", self.trace, self.id]

    @property
    def links(self) -> list[str]:
        return [link.span_id.hex() for link in self.span.links]

    @property
    def attributes(self) -> Mapping[str, str | int]:
        return {
            pair.key: pair.value.int_value if pair.value.HasField("int_value") else pair.value.string_value
            for pair in self.span.attributes
        }

    @property
    def failed(self) -> str | None:
        """What its error is, if it has one."""
        is_error = self.span.status.code == Status.STATUS_CODE_ERROR
        assert is_error == ("error.type" in self.attributes)
        return str(self.attributes["error.type"]) if is_error else None


@dataclass
class Collector:
    """What was exported; while `status` is no success, it is refused. While `open` is cleared, nothing is answered."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    status: int = 200
    open: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def export(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests += 1
        await self.open.wait()
        if self.status == 200:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
                for of_scope in of_resource.scope_spans:
                    self.spans += [Seen(names["service.name"], span) for span in of_scope.spans]
        async with self.changed:
            self.changed.notify_all()
        return web.Response(status=self.status)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self.changed:
            await self.changed.wait_for(condition)

    def named(self, name: str) -> Sequence[Seen]:
        """The spans of that name, in the order in which they began."""
        return sorted((seen for seen in self.spans if seen.name == name), key=lambda seen: seen.span.start_time_unix_nano)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    collector.open.set()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.export)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
