"""One trace from a publisher, through the bridge, to who reads Kafka and who receives a webhook, as a collector sees it."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_span_in_context

from bridge.emulator.server import Emulator
from bridge.testing import MemorySink
from kafka.broker import Broker
from kafka.reading import read
from outside.command import GROUP, TOPIC
from outside.waiting import until
from tracing.collector import Collector
from tracing.running import acked, tracing
from webhook.receiver import Receiver


class Application:
    """Another program, with OpenTelemetry set up as its authors say."""

    def __init__(self, name: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(name)

    def span(self, name: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Go on with the trace in `headers`, or begin one; what tells the next of it."""
        with self._tracer.start_as_current_span(name, context=extract(headers, Context())) as span:
            carrier: dict[str, str] = {}
            inject(carrier, set_span_in_context(span))
            return carrier

    def close(self) -> None:
        self._provider.shutdown()


@contextmanager
def applications(*names: str) -> Iterator[list[Application]]:
    running = [Application(name) for name in names]
    try:
        yield running
    finally:
        for application in running:
            application.close()


def to_webhook(receiver: Receiver) -> dict[str, str]:
    return {"SINK": "webhook", "WEBHOOK__URL": receiver.url}


async def test_a_trace_goes_from_the_publisher_to_kafka_and_the_webhook(
    emulator: Emulator, collector: Collector, receiver: Receiver, kafka: Broker, tmp_path: Path
) -> None:
    with applications("publisher", "consumer", "receiver") as (publisher, consumer, received_by):
        traced = publisher.span("publish", {})
        emulator.publish(TOPIC, '{"order": 1}', properties={**traced, "tracestate": "vendor=1"})
        topic = f"topic-{uuid4().hex}"
        kafka.create_topic(topic)
        kafka_settings = {"KAFKA__BOOTSTRAP_SERVERS": kafka.address(), "KAFKA__TOPIC": topic}
        async with tracing(emulator, tmp_path, {"SINK": "kafka,webhook", **kafka_settings, "WEBHOOK__URL": receiver.url}):
            await until(lambda: acked(emulator) == 1)
        (record,) = await asyncio.to_thread(read, kafka, topic)
        (request,) = receiver.requests
        of_record = {name: record.headers[name].decode() for name in ("traceparent", "tracestate")}
        consumer.span("consume", of_record)
        received_by.span("receive", request.headers)
        await collector.until(lambda: {"publish", "process orders", "send kafka"} <= {seen.name for seen in collector.spans})
        await asyncio.to_thread(consumer.close)
        await asyncio.to_thread(received_by.close)
    (published,), (process,) = collector.named("publish"), collector.named("process orders")
    (to_kafka,), (to_webhook,) = collector.named("send kafka"), collector.named("send webhook")
    (consumed,), (received,) = collector.named("consume"), collector.named("receive")
    chain = {
        process.id: published.id,
        to_kafka.id: process.id,
        consumed.id: to_kafka.id,
        to_webhook.id: process.id,
        received.id: to_webhook.id,
    }
    spans = [published, process, to_kafka, consumed, to_webhook, received]
    assert {seen.trace for seen in spans} == {published.trace}
    assert {seen.id: seen.parent for seen in spans if seen.parent} == chain
    assert all(seen.failed is None for seen in spans)
    assert {seen.service for seen in (process, to_kafka, to_webhook)} == {"rocketmq-bridge"}
    assert of_record["tracestate"] == request.headers["tracestate"] == "vendor=1"
    # what the CloudEvents extension carries is the start of the trace, and none of its hops
    for event in (json.loads(record.value or b""), json.loads(request.body)):
        assert event["traceparent"] == traced["traceparent"]


async def test_polls_and_acks_of_many_messages_link_to_the_spans_of_each(
    emulator: Emulator, collector: Collector, receiver: Receiver, tmp_path: Path
) -> None:
    ids = {emulator.publish(TOPIC, f"message {number}", tag="T").message_id for number in range(3)}
    async with tracing(emulator, tmp_path, to_webhook(receiver)):
        await until(lambda: acked(emulator) == 3)
    processes, (poll,), (ack,) = (collector.named(f"{name} orders") for name in ("process", "poll", "ack"))
    assert sorted(poll.links) == sorted(ack.links) == sorted(process.id for process in processes)
    common = {"messaging.system": "rocketmq", "messaging.destination.name": TOPIC, "messaging.consumer.group.name": GROUP}
    types = {"poll": "receive", "process": "process", "ack": "settle"}
    for span in (poll, *processes, ack):
        name = span.name.partition(" ")[0]
        expected = {**common, "messaging.operation.name": name, "messaging.operation.type": types[name]}
        assert span.attributes.items() >= expected.items()
    assert poll.attributes["messaging.batch.message_count"] == ack.attributes["messaging.batch.message_count"] == 3
    assert {process.attributes["messaging.message.id"] for process in processes} == ids
    assert {process.attributes["messaging.rocketmq.message.tag"] for process in processes} == {"T"}
    assert len({process.trace for process in processes} | {poll.trace, ack.trace}) == 5


async def test_nothing_is_traced_unless_asked_for(
    emulator: Emulator, collector: Collector, receiver: Receiver, tmp_path: Path
) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    emulator.publish(TOPIC, "a message", properties={"traceparent": traceparent})
    async with tracing(emulator, tmp_path, {**to_webhook(receiver), "TRACING__ENABLED": "false"}) as service:
        await until(lambda: acked(emulator) == 1)
    (request,) = receiver.requests
    assert json.loads(request.body)["traceparent"] == traceparent
    assert not {"traceparent", "tracestate"} & request.headers.keys()
    assert service.facts.tracing is None
    assert collector.requests == 0


async def test_a_request_with_several_events_claims_no_one_of_their_traces(
    emulator: Emulator, collector: Collector, receiver: Receiver, tmp_path: Path
) -> None:
    for number in range(3):
        emulator.publish(TOPIC, f"message {number}")
    in_batches = {**to_webhook(receiver), "WEBHOOK__MODE": "batch", "WEBHOOK__BATCH_MAX": "2"}
    async with tracing(emulator, tmp_path, in_batches):
        await until(lambda: acked(emulator) == 3)
    spans = {seen.attributes["messaging.message.id"]: seen for seen in collector.named("send webhook")}
    alone, together = sorted(receiver.requests, key=lambda request: len(json.loads(request.body)))
    assert spans[json.loads(alone.body)[0]["id"]].is_named_by(alone.headers["traceparent"])
    assert len(json.loads(together.body)) == 2
    assert "traceparent" not in together.headers


@pytest.mark.parametrize("traceparent", ["rubbish", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 600])
async def test_a_property_that_is_no_traceparent_begins_a_new_trace(
    emulator: Emulator, collector: Collector, tmp_path: Path, traceparent: str
) -> None:
    sink = MemorySink()
    emulator.publish(TOPIC, "a message", properties={"traceparent": traceparent, "tracestate": "no state"})
    async with tracing(emulator, tmp_path, sinks={"stdout": sink}) as service:
        await until(lambda: acked(emulator) == 1)
        assert service.facts.tracing
        assert service.facts.tracing.last_error is None
    (process,), (send,) = collector.named("process orders"), collector.named("send stdout")
    assert (process.parent, send.parent) == ("", process.id)
    (event,) = sink.confirmed
    assert event.attributes["traceparent"] == traceparent
    assert [name for name, _ in event.trace_headers] == ["traceparent"]
    assert send.is_named_by(dict(event.trace_headers)["traceparent"])
