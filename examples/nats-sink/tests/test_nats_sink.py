import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED, Refused
from bridge.testing import make_event
from nats_server import STREAM, SUBJECT, NatsServer, stored

from rocketmq_bridge_nats import NatsSettings, NatsSink


def deadline() -> float:
    return asyncio.get_running_loop().time() + 20


async def opened(server: NatsServer, subject: str = SUBJECT) -> NatsSink:
    sink = NatsSink(NatsSettings(servers=server.url, subject=subject))
    await sink.open()
    return sink


async def test_the_server_drops_what_it_is_sent_twice(server: NatsServer) -> None:
    sink, event = await opened(server), make_event()
    assert await sink.send([event], deadline()) == [CONFIRMED]
    assert await sink.send([event], deadline()) == [CONFIRMED]
    await sink.close()
    async with server.jetstream() as stream:
        assert await stored(stream) == [(event.id, event.structured())]


async def test_a_reader_of_the_stream_can_go_on_with_the_trace(server: NatsServer) -> None:
    trace = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", "vendor=1"))
    sink = await opened(server)
    assert await sink.send([replace(make_event(), trace_headers=trace)], deadline()) == [CONFIRMED]
    await sink.close()
    async with server.jetstream() as stream:
        headers = (await stream.get_msg(STREAM, 1)).headers or {}
    assert dict(trace).items() <= headers.items()


async def test_a_subject_that_no_stream_takes_is_the_sinks_trouble(server: NatsServer) -> None:
    sink = await opened(server, "elsewhere")
    with pytest.raises(SinkDownError, match="BRIDGE_NATS__SUBJECT"):
        await sink.send([make_event(), make_event()], deadline())
    with pytest.raises(SinkDownError, match="BRIDGE_NATS__SUBJECT"):
        await sink.probe()
    async with server.jetstream() as stream:
        await stream.add_stream(name="ELSEWHERE", subjects=["elsewhere"])
    await sink.probe()
    assert await sink.send([make_event()], deadline()) == [CONFIRMED]
    await sink.close()


async def test_what_is_too_large_for_the_stream_is_refused(server: NatsServer) -> None:
    async with server.jetstream() as stream:
        await stream.update_stream(name=STREAM, subjects=[SUBJECT], max_msg_size=1000)
    sink = await opened(server)
    small, large = await sink.send([make_event("x"), make_event("x" * 1000)], deadline())
    await sink.close()
    assert small == CONFIRMED
    assert isinstance(large, Refused)
    assert "maximum" in large.reason


async def test_a_wrong_password_says_so_and_is_not_shown(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, extra="authorization { user: bridge, password: right }")
    await server.start()
    for password, reason in (("wrong-one", "(?i)authorization"), (None, "(?i)authorization")):
        settings = NatsSettings.model_validate(
            {"servers": server.url, "subject": SUBJECT, "user": "bridge", "password": password}
        )
        with pytest.raises(SinkDownError, match=reason) as complaint:
            await NatsSink(settings).open()
        assert "wrong-one" not in str(complaint.value)
    right = NatsSink(
        NatsSettings.model_validate({"servers": server.url, "subject": SUBJECT, "user": "bridge", "password": "right"})
    )
    await right.open()
    await right.close()
    await server.kill()


async def test_the_bridge_finds_it_by_its_name_and_delivers(server: NatsServer, tmp_path: Path) -> None:
    settings = {"BRIDGE_SINK": "nats", "BRIDGE_NATS__SERVERS": server.url, "BRIDGE_NATS__SUBJECT": SUBJECT}
    arguments = ("-m", "bridge", "demo", "--messages", "40")
    demo = await asyncio.create_subprocess_exec(sys.executable, *arguments, env={**os.environ, **settings}, cwd=tmp_path)
    async with asyncio.timeout(60):
        assert await demo.wait() == 0
    async with server.jetstream() as stream:
        events = [json.loads(payload) for _, payload in await stored(stream)]
    assert len({event["id"] for event in events}) == len(events) == 40
    assert {event["source"] for event in events} == {"/rocketmq/demo"}
