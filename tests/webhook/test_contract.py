"""The contract that every sink keeps, in each of the three modes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from bridge.event import Event
from bridge.sinks.webhook import WebhookSink
from bridge.sinks.webhook.settings import WebhookSettings
from bridge.testing import make_event
from bridge.testing.contract import Rig, SinkContract
from server_process import free_port
from webhook.receiver import Received, receiving

UNACCEPTABLE = "never taken"


class WebhookRig(Rig):
    """A receiver that can be taken away and frozen. What it has answered with 2xx, it keeps."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._kept: list[tuple[str, bytes]] = []
        self._port = free_port()
        self._running = AsyncExitStack()
        self._going_on = asyncio.Event()
        self._going_on.set()

    def sink(self) -> WebhookSink:
        url = f"http://127.0.0.1:{self._port}/"
        return WebhookSink(WebhookSettings.model_validate({"url": url, "mode": self._mode, "probe_url": f"{url}health"}))

    async def held(self) -> Sequence[str]:
        return [event_id for event_id, _ in self._kept]

    async def contents(self) -> Mapping[str, bytes]:
        return dict(self._kept)

    def unacceptable(self) -> Event:
        return make_event(UNACCEPTABLE)

    async def take_down(self) -> None:
        await self._running.aclose()

    async def bring_up(self) -> None:
        self._running = AsyncExitStack()
        receiver = await self._running.enter_async_context(receiving(port=self._port))
        receiver.answer = self._answer

    async def freeze(self) -> None:
        self._going_on.clear()

    async def thaw(self) -> None:
        self._going_on.set()

    async def _answer(self, received: Received) -> web.Response:
        await self._going_on.wait()
        if received.method == "GET":
            return web.Response()
        if UNACCEPTABLE.encode() in received.body:
            return web.Response(status=422)
        if self._mode == "batch":
            self._kept += elements(received.body.decode())
        else:
            self._kept.append((received.headers["webhook-id"], received.body))
        return web.Response(status=202)


def elements(array: str) -> Iterator[tuple[str, bytes]]:
    """The ids of a batch's events, and each as it is written."""
    start = 1
    while start < len(array):
        event, end = json.JSONDecoder().raw_decode(array, start)
        assert array[end] in ",]"
        yield event["id"], array[start:end].encode()
        start = end + 1


@pytest.mark.parametrize("mode", ["structured", "binary", "batch"])
class TestWebhook(SinkContract):
    @pytest.fixture
    async def rig(self, mode: str) -> AsyncIterator[WebhookRig]:
        rig = WebhookRig(mode)
        await rig.bring_up()
        yield rig
        await rig.take_down()
