"""Each message's trace goes on through the bridge, in OpenTelemetry's spans and by its conventions for messaging.

    the publisher's span ─► process ─┬─► send kafka ───► who reads it from there
                                     └─► send webhook ─► who receives it

`process` lasts from the poll that has brought a message until it is acked, or left to the broker. `poll` and `ack` are about
many messages, so each is a trace of its own, with links to their spans.

Tracing wraps the seams, `Source` and `Sink`: without it there is nothing that could cost anything. From one seam to the other,
and on to the sink's other side, the span of an event travels in `Event.trace_headers`. The CloudEvents attribute `traceparent`
stays as it came: it "MUST NOT carry trace information of each individual hop" (CloudEvents, Distributed Tracing extension).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from opentelemetry.context import Context
from opentelemetry.trace import Link, NoOpTracer, Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bridge.event import Event
from bridge.sinks import Again, Confirmed, Outcome, ProbedSink, Refused, Sink, Unknown
from bridge.source import Batch, Delivery, NotAcked, Source
from bridge.watch.facts import Facts
from bridge.watch.otlp import Otlp

Attributes = dict[str, str | int]

_W3C = TraceContextTextMapPropagator()


class Tracing:
    """The spans of one bridge.

    Whatever goes wrong with them is told by the component `facts.tracing`, and changes no delivery (design.md, promise 9).
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._component = facts.tracing = facts.component("tracing")
        self._tracer: Tracer = NoOpTracer()
        self._source: TracedSource | None = None

    @asynccontextmanager
    async def exporting(self, *, close_seconds: float) -> AsyncIterator[None]:
        """Make spans and export them, for as long as the `async with` lasts; its end takes so many seconds at most.

        Raises FixSettingsError for a variable `OTEL_…` that can't be used.
        """
        otlp = Otlp(self._component)
        self._tracer = otlp.tracer
        try:
            yield
        finally:
            if self._source:
                self._source.close()
            await otlp.close(close_seconds)

    def source(self, source: Source) -> Source:
        """The source, with spans for its polls that bring something, for what they bring, and for its acks."""
        self._source = TracedSource(source, self)
        self._facts.on_left = self._source.left
        return self._source

    def sink(self, name: str, sink: Sink, *, operation: str = "send") -> Sink:
        """A sink, by its name in the settings, with a span for each event that it is sent."""
        kind = TracedProbedSink if isinstance(sink, ProbedSink) else TracedSink
        return kind(sink, self, name, operation)

    def begin(
        self,
        operation: str,
        type_: str,
        kind: SpanKind,
        *,
        destination: str,
        system: str = "rocketmq",
        attributes: Attributes,
        parent: Context | None = None,
        links: Sequence[Span] = (),
        seconds_ago: float = 0.0,
    ) -> Span:
        """A span, named and attributed by OpenTelemetry's conventions for messaging; without a parent it begins a trace."""
        return self._tracer.start_span(
            f"{operation} {destination}",
            context=parent or Context(),
            kind=kind,
            attributes={
                "messaging.system": system,
                "messaging.operation.name": operation,
                "messaging.operation.type": type_,
                **attributes,
            },
            links=[Link(span.get_span_context()) for span in links],
            start_time=time.time_ns() - round(seconds_ago * 1e9),
        )

    @contextmanager
    def harmless(self) -> Iterator[None]:
        """What goes wrong inside is told, and goes no further."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - not even a bug of ours may keep a message from its sink
            self._component.fails(f"{type(problem).__name__}: {problem}")


@dataclass(frozen=True, slots=True)
class _Processing:
    """A message that is in the bridge."""

    span: Span
    until: float
    """The end of its lease, on the event loop's clock."""


class TracedSource:
    """A source with spans."""

    def __init__(self, source: Source, tracing: Tracing) -> None:
        self._source = source
        self._tracing = tracing
        self._processing: dict[str, _Processing] = {}  # by receipt, the oldest first

    async def receive(self, max_messages: int, wait_seconds: int) -> Batch:
        """See `Source.receive`."""
        batch = await self._source.receive(max_messages, wait_seconds)
        with self._tracing.harmless():
            self._end_what_has_expired()
            if batch.deliveries:
                return self._begin(batch)
        return batch

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        """See `Source.ack`."""
        begun = time.monotonic()
        error: BaseException | None = None
        not_acked: Sequence[NotAcked] = ()
        try:
            not_acked = await self._source.ack(deliveries)
        except BaseException as problem:
            error = problem
            raise
        finally:
            with self._tracing.harmless():
                self._note_acked(deliveries, not_acked, error, time.monotonic() - begun)
        return not_acked

    def left(self, receipt: str, why: str) -> None:
        """A message was left to the broker."""
        with self._tracing.harmless():
            self._end_processing(receipt, "left to the broker", why)

    def close(self) -> None:
        """Nothing is acked any more."""
        with self._tracing.harmless():
            for receipt in list(self._processing):
                self._end_processing(receipt, "shutdown", "the bridge ended before it was acked")

    def _begin(self, batch: Batch) -> Batch:
        deliveries: list[Delivery] = []
        spans: list[Span] = []
        for delivery in batch.deliveries:
            span = self._begin_processing(delivery)
            if delivery.receipt:
                self._processing[delivery.receipt] = _Processing(span, delivery.expires_at)
            else:
                _end(span, "damaged", "its receipt can't be read, so it can't be acked")
            spans.append(span)
            deliveries.append(replace(delivery, event=replace(delivery.event, trace_headers=_headers(span))))
        _end(self._span_of_many("poll", "receive", deliveries, spans, seconds=batch.waited))
        return replace(batch, deliveries=deliveries)

    def _begin_processing(self, delivery: Delivery) -> Span:
        event = delivery.event
        attributes = _about_message(event) | _whence(event) | {"bridge.consumed_times": delivery.consumed_times}
        if event.tag:
            attributes["messaging.rocketmq.message.tag"] = event.tag
        return self._tracing.begin(
            "process",
            "process",
            SpanKind.CONSUMER,
            destination=event.origin.topic,
            attributes=attributes,
            parent=_W3C.extract(event.properties),
        )

    def _span_of_many(
        self, operation: str, type_: str, deliveries: Sequence[Delivery], spans: Sequence[Span], *, seconds: float
    ) -> Span:
        """A span for what has just been done with many messages at once, and took so many seconds."""
        event = deliveries[0].event
        return self._tracing.begin(
            operation,
            type_,
            SpanKind.CLIENT,
            destination=event.origin.topic,
            attributes={**_whence(event), "messaging.batch.message_count": len(deliveries)},
            links=spans,
            seconds_ago=seconds,
        )

    def _note_acked(
        self, deliveries: Sequence[Delivery], not_acked: Sequence[NotAcked], error: BaseException | None, seconds: float
    ) -> None:
        spans = [self._processing[d.receipt].span for d in deliveries if d.receipt in self._processing]
        span = self._span_of_many("ack", "settle", deliveries, spans, seconds=seconds)
        if error:  # it is tried again for as long as the lease lasts
            _end(span, type(error).__name__, str(error))
            return
        codes = {failure.delivery.receipt: failure.code for failure in not_acked}
        _end(span, ", ".join(sorted(set(codes.values()))), f"{len(codes)} of {len(deliveries)} were not acked")
        for delivery in deliveries:
            code = codes.get(delivery.receipt, "")
            self._end_processing(delivery.receipt, code, "not acked")

    def _end_processing(self, receipt: str, error: str = "", description: str = "") -> None:
        if (processing := self._processing.pop(receipt, None)) is not None:
            _end(processing.span, error, description)

    def _end_what_has_expired(self) -> None:
        """Of what nobody acked or left, as when its ack came too late."""
        now = asyncio.get_running_loop().time()
        expired = takewhile(lambda item: item[1].until <= now, self._processing.items())
        for receipt in [receipt for receipt, _ in expired]:
            self._end_processing(receipt, "expired", "its lease ended before it was acked")


class TracedSink(Sink):
    """A sink with spans."""

    def __init__(self, sink: Sink, tracing: Tracing, name: str, operation: str) -> None:
        super().__init__(None)  # the sink has its own settings
        self._sink = sink
        self._tracing = tracing
        self._name = name
        self._operation = operation

    def keep_order(self) -> None:
        """See `Sink.keep_order`."""
        self._sink.keep_order()

    async def open(self) -> None:
        """See `Sink.open`."""
        await self._sink.open()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """See `Sink.send`."""
        spans: Sequence[Span] = ()
        with self._tracing.harmless():
            begun = [self._begin(event) for event in events]
            events = [replace(event, trace_headers=_headers(span)) for event, span in zip(events, begun, strict=True)]
            spans = begun
        try:
            outcomes = await self._sink.send(events, deadline)
        except BaseException as problem:
            with self._tracing.harmless():
                for span in spans:
                    _end(span, type(problem).__name__, str(problem))
            raise
        with self._tracing.harmless():
            for span, outcome in zip(spans, outcomes, strict=bool(spans)):
                self._end(span, outcome)
        return outcomes

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._sink.close()

    def _begin(self, event: Event) -> Span:
        return self._tracing.begin(
            self._operation,
            "send",
            SpanKind.PRODUCER,
            destination=self._name,
            system=self._name,
            attributes=_about_message(event),
            parent=_W3C.extract(dict(event.trace_headers)),
        )

    def _end(self, span: Span, outcome: Outcome) -> None:
        match outcome:
            case Refused() | Again():
                _end(span, type(outcome).__name__.lower(), outcome.reason)
            case Unknown():
                outcome.answer.add_done_callback(partial(self._answered, span))
            case _:
                _end(span)

    def _answered(self, span: Span, answer: "asyncio.Future[Confirmed | Refused | Again]") -> None:
        with self._tracing.harmless():
            if answer.cancelled() or (problem := answer.exception()):
                _end(span, "no answer", "" if answer.cancelled() else str(problem))
            else:
                self._end(span, answer.result())


class TracedProbedSink(TracedSink, ProbedSink):
    """A sink with spans that can be asked how it is."""

    _sink: ProbedSink

    async def probe(self) -> None:
        """See `ProbedSink.probe`."""
        await self._sink.probe()


def _about_message(event: Event) -> Attributes:
    return {"messaging.message.id": event.id, "messaging.message.body.size": event.size}


def _whence(event: Event) -> Attributes:
    origin = event.origin
    whence: Attributes = {"messaging.destination.name": origin.topic, "messaging.consumer.group.name": origin.group}
    return {**whence, "messaging.rocketmq.namespace": origin.instance} if origin.instance else whence


def _headers(span: Span) -> tuple[tuple[str, str], ...]:
    headers: dict[str, str] = {}
    _W3C.inject(headers, set_span_in_context(span, Context()))
    return tuple(headers.items())


def _end(span: Span, error: str = "", description: str = "") -> None:
    """End a span; with an error, in one of few words, as one of something that failed."""
    if error:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR, description)
    span.end()
