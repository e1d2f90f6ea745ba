from collections.abc import Mapping, Sequence

import pytest
from bridge.event import Event
from bridge.testing import make_event
from bridge.testing.contract import Rig, SinkContract
from nats_server import MAX_PAYLOAD, SUBJECT, NatsServer, stored

from rocketmq_bridge_nats import NatsSettings, NatsSink


class NatsRig(Rig):
    def __init__(self, server: NatsServer) -> None:
        self._server = server

    def sink(self) -> NatsSink:
        return NatsSink(NatsSettings(servers=self._server.url, subject=SUBJECT, ack_seconds=3))

    async def held(self) -> Sequence[str]:
        async with self._server.jetstream() as stream:
            return [event_id for event_id, _ in await stored(stream)]

    async def contents(self) -> Mapping[str, bytes]:
        async with self._server.jetstream() as stream:
            return dict(await stored(stream))

    def unacceptable(self) -> Event:
        return make_event("x" * MAX_PAYLOAD)

    async def take_down(self) -> None:
        await self._server.kill()

    async def bring_up(self) -> None:
        await self._server.start()

    async def freeze(self) -> None:
        self._server.freeze()

    async def thaw(self) -> None:
        self._server.thaw()


class TestNatsSink(SinkContract):
    outage_seconds = 0.5

    @pytest.fixture
    async def rig(self, server: NatsServer) -> NatsRig:
        return NatsRig(server)
