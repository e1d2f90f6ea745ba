"""The probe asks PROBE_URL whether the endpoint is up; without one an event has to find out."""

import asyncio

import pytest
from aiohttp import web

from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED
from bridge.sinks.webhook import WebhookSink
from bridge.sinks.webhook.settings import WebhookSettings
from bridge.testing import make_event
from outside.waiting import until
from webhook.receiver import Received, Receiver, answers, opened, send


async def test_without_a_probe_url_nothing_is_asked(receiver: Receiver) -> None:
    async with opened(receiver.url) as sink:
        await sink.probe()
    assert receiver.requests == []


async def test_2xx_is_up_and_all_else_is_not(receiver: Receiver) -> None:
    health = receiver.url.replace("/hook", "/health?key=secret")
    async with opened(receiver.url, probe_url=health, auth_token="abc") as sink:
        await sink.probe()
        assert (receiver.last.method, receiver.last.path, receiver.last.body) == ("GET", "/health?key=secret", b"")
        assert receiver.last.headers["authorization"] == "Bearer abc"  # it is the same server
        for status in (301, 401, 404, 500, 503):
            receiver.answer = answers(status)
            with pytest.raises(SinkDownError, match=rf"^probing .*/health\?…: answered {status}") as caught:
                await sink.probe()
            assert "secret" not in str(caught.value)


async def test_it_does_not_open_before_the_probe_is_good(receiver: Receiver) -> None:
    receiver.answer = answers(503)
    with pytest.raises(SinkDownError, match="503"):
        async with opened(receiver.url, probe_url=receiver.url):
            pass


async def test_it_opens_when_it_is_asked_again(receiver: Receiver) -> None:
    sink = WebhookSink(WebhookSettings(url=receiver.url, probe_url=receiver.url))
    receiver.answer = answers(503)
    with pytest.raises(SinkDownError):
        await sink.open()
    receiver.answer = answers(200)
    await sink.open()
    assert await send(sink, make_event()) == [CONFIRMED]
    await sink.close()


async def test_a_probe_without_an_answer_is_bounded(receiver: Receiver) -> None:
    async def never(_: Received) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with opened(receiver.url, probe_url=receiver.url, timeout_seconds=1) as sink:
        receiver.answer = never
        async with asyncio.timeout(5):
            with pytest.raises(SinkDownError, match="no whole answer"):
                await sink.probe()


async def test_a_probe_works_while_every_connection_for_events_is_taken(receiver: Receiver) -> None:
    go = asyncio.Event()

    async def answer(received: Received) -> web.Response:
        if received.method == "POST":
            await go.wait()
        return web.Response()

    receiver.answer = answer
    async with opened(receiver.url, probe_url=receiver.url, max_connections=1) as sink:
        sending = asyncio.create_task(send(sink, make_event()))
        await until(lambda: receiver.at_once == 1)
        async with asyncio.timeout(5):
            await sink.probe()
        go.set()
        assert await sending == [CONFIRMED]
