"""Kafka killed, frozen, and going on: nothing is lost, nothing is written twice, and every wait has an end."""

import asyncio
import time

import pytest

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import Again, Confirmed, Unknown
from bridge.testing import make_event
from bridge.testing.caller import Caller, opened
from kafka.broker import START_SECONDS, Broker
from kafka.reading import read
from kafka.sinks import PATIENCE_SECONDS, open_sink, sink_for


async def test_a_broker_that_is_killed_in_the_middle_loses_nothing(kafka: Broker, topic: str) -> None:
    """Pollers go on all the while, and send again what isn't confirmed: afterwards all is there, and nothing twice."""
    sent: list[Event] = []
    stop = asyncio.Event()

    async def poller(caller: Caller) -> None:
        while not stop.is_set():
            events = [make_event(properties={"KEYS": f"k{number}"}) for number in range(16)]
            sent.extend(events)
            await caller.deliver(*events)

    async with opened(sink_for(kafka, topic), START_SECONDS + 10) as caller:  # as patient as the start is
        pollers = [asyncio.create_task(poller(caller)) for _ in range(8)]
        for _ in range(2):
            seen = len(sent)
            while len(sent) < seen + 1000:
                ended, _ = await asyncio.wait(pollers, timeout=0.01)
                assert not ended, ended
            kafka.kill()
            await asyncio.to_thread(kafka.start)
        stop.set()
        await asyncio.gather(*pollers)
    found = [record.event_id for record in read(kafka, topic)]
    assert sorted(found) == sorted(event.id for event in sent)


async def test_what_is_out_when_the_deadline_comes_is_followed_until_it_is_known(kafka: Broker, topic: str) -> None:
    """A record that went out before the freeze is unknown; one that waited behind it was never handed over."""
    first, second = make_event("first", properties={"KEYS": "one"}), make_event("second", properties={"KEYS": "one"})
    async with open_sink(kafka, topic) as caller:
        await caller.send(make_event(properties={"KEYS": "one"}))
        with kafka.frozen():
            (unknown,) = await caller.send(first, within=1.0)
            (behind,) = await caller.send(second, within=1.0)
            assert isinstance(unknown, Unknown)
            assert not unknown.answer.done()
            assert isinstance(behind, Again)
        assert isinstance(await caller.settle(unknown), Confirmed)
        await caller.deliver(second)
    assert [record.event_id for record in read(kafka, topic)][1:] == [first.id, second.id]


async def test_an_outage_shows_itself_long_before_the_deadline(
    kafka: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [make_event(f"{number}", properties={"KEYS": "one"}) for number in range(2)]
    async with open_sink(kafka, topic) as caller:
        await caller.deliver(make_event(properties={"KEYS": "one"}))
        monkeypatch.setattr("bridge.sinks.kafka.PATIENCE_SECONDS", 1.0)
        with kafka.frozen():
            async with asyncio.timeout(5.0):
                (unknown,) = await caller.send(events[0])
                (behind,) = await caller.send(events[1])
            assert isinstance(unknown, Unknown)
            assert isinstance(behind, Again)
            assert not await caller.probe()
        assert isinstance(await caller.settle(unknown), Confirmed)
    assert [record.event_id for record in read(kafka, topic)][1:] == [events[0].id]


async def test_a_freeze_longer_than_the_request_timeout_writes_nothing_twice(kafka: Broker, topic: str) -> None:
    """aiokafka asks again on a new connection, and the broker finds both requests when it goes on."""
    events = [make_event(f"{number}", properties={"KEYS": "one"}) for number in range(20)]
    async with open_sink(kafka, topic, request_timeout_ms=1000) as caller:
        await caller.send(make_event(properties={"KEYS": "one"}))
        with kafka.frozen():
            outcomes = await caller.send(*events, within=3.0)
            assert all(isinstance(outcome, Unknown) for outcome in outcomes)
        for outcome in outcomes:
            assert isinstance(await caller.settle(outcome), Confirmed)
    assert [record.event_id for record in read(kafka, topic)][1:] == [event.id for event in events]


async def test_close_is_bounded_while_kafka_is_frozen_and_answers_who_waits(kafka: Broker, topic: str) -> None:
    sink = sink_for(kafka, topic)
    await sink.open()
    now = asyncio.get_running_loop().time
    await sink.send([make_event()], now() + PATIENCE_SECONDS)
    with kafka.frozen():
        (unknown,) = await sink.send([make_event()], now() + 0.5)
        assert isinstance(unknown, Unknown)
        waiting = asyncio.create_task(sink.send([make_event(), make_event()], now() + PATIENCE_SECONDS))
        await asyncio.sleep(0)
        began = time.monotonic()
        await sink.close()
        assert time.monotonic() - began < 3.0
        async with asyncio.timeout(1.0):
            assert isinstance(await unknown.answer, Again)
            assert all(isinstance(outcome, Again) for outcome in await waiting)


async def test_a_sink_that_could_never_open_closes_at_once(kafka: Broker, topic: str) -> None:
    sink = sink_for(kafka, topic, bootstrap_servers="localhost:1")
    with pytest.raises(SinkDownError):
        await sink.open()
    began = time.monotonic()
    await sink.close()
    assert time.monotonic() - began < 1.0


async def test_opening_is_bounded_while_kafka_is_frozen(kafka: Broker, topic: str) -> None:
    sink = sink_for(kafka, topic)
    with kafka.frozen():
        began = time.monotonic()
        with pytest.raises(SinkDownError, match="no answer in time"):
            await sink.open()
        assert time.monotonic() - began < 8.0
    kafka.wait_until_it_answers()
    await sink.open()
    await sink.close()
