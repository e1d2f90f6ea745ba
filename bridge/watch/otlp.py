"""Spans go out by OTLP over HTTP; OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`, say where and how."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import ParamSpec

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from bridge import __version__
from bridge.errors import FixSettingsError
from bridge.watch.facts import Component

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

P = ParamSpec("P")

NAME = "rocketmq-bridge"


class Otlp:
    """A tracer, and the thread that sends those of its spans that have ended. Made inside the event loop.

    `component` tells how sending goes. Raises FixSettingsError for `OTEL_…` variables that can't be used.
    """

    def __init__(self, component: Component) -> None:
        self._logs = _OpenTelemetryLogs(component)
        # whoever sets OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES knows better
        named = {SERVICE_NAME: NAME, SERVICE_VERSION: __version__, **OTELResourceDetector().detect().attributes}
        try:
            self._exporter = _Exporter(component)
            # Not shut down by the library when the process exits: it would wait without a bound.
            self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        except Exception as problem:
            self._logs.close()
            raise FixSettingsError(f"BRIDGE_TRACING__ENABLED: a variable OTEL_… can't be used: {problem}") from problem
        self.tracer = self._provider.get_tracer(NAME, __version__)

    async def close(self, seconds: float) -> None:
        """Send what has ended, for so many seconds at most; what is not sent by then is lost."""
        closed = asyncio.Event()
        tell = _in_the_loop(closed.set)

        def shut_down() -> None:
            self._provider.shutdown()
            tell()

        Thread(target=shut_down, name="tracing", daemon=True).start()  # a thread of the loop's executor would hold up the exit
        try:
            await asyncio.wait_for(closed.wait(), seconds)
        except TimeoutError:
            log.warning("spans could not be exported in time, and are lost", seconds=seconds)
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # the library left its annotation out
        finally:
            self._logs.close()


class _Exporter(OTLPSpanExporter):
    """Tells the component when it succeeds; when it doesn't, it logs why."""

    def __init__(self, component: Component) -> None:
        super().__init__()
        self._works = _in_the_loop(component.works)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._works()
        return result


class _OpenTelemetryLogs(logging.Handler):
    """What the library logs becomes the component's trouble, which is logged once and not for every span and every attempt.

    Only what it says of exporting: what it says of the headers of messages is their publishers' trouble.
    """

    def __init__(self, component: Component) -> None:
        super().__init__(logging.WARNING)
        self._fails = _in_the_loop(component.fails)
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("opentelemetry.exporter.", "opentelemetry.sdk.")):
            self._fails(re.sub(r"(?<=//)\S*@|(?<=\?)\S*", "…", record.getMessage()))  # of a URL neither its user nor its query

    def close(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True
        super().close()


def _in_the_loop(callback: Callable[P, object]) -> Callable[P, None]:
    """What has the event loop call something, from any thread; once the loop has ended, nothing is called."""
    loop = asyncio.get_running_loop()

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(partial(callback, *args, **kwargs))

    return call
