"""The page, served as the bridge serves it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bridge.loading import load
from bridge.settings import RunSettings
from bridge.variables import Shown, shown
from bridge.watch.event_loop import beating
from bridge.watch.face import Face
from bridge.watch.facts import Facts
from bridge.watch.page import Page

SECRET = "never-to-be-seen"


def settings() -> Sequence[Shown]:
    environ = {
        "BRIDGE_ROCKETMQ__ENDPOINT": "http://1234567890123456.mqrest.cn-hangzhou.aliyuncs.com",
        "BRIDGE_ROCKETMQ__TOPIC": "orders",
        "BRIDGE_ROCKETMQ__GROUP_ID": "GID_orders_bridge",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "LTAI5tExample",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": SECRET,
        "BRIDGE_SINK": "kafka,webhook",
        "BRIDGE_KAFKA__BOOTSTRAP_SERVERS": "kafka-0.kafka:9092,kafka-1.kafka:9092",
        "BRIDGE_KAFKA__TOPIC": "orders",
        "BRIDGE_WEBHOOK__URL": f"https://user:{SECRET}@hooks.example.com/orders?token={SECRET}",
    }
    return list(shown(load(RunSettings, environ=environ).settings))


@asynccontextmanager
async def served(facts: Facts, *, port: int = 0, turning: bool = True) -> AsyncIterator[str]:
    """Serve the page of these facts; its address. Where nothing is `turning`, the event loop is seen to be stuck."""
    page = Page(facts, topic="orders", group="GID_orders_bridge", settings=settings())
    async with Face(facts, host="127.0.0.1", port=port, labels={}, page=page.routes) as face:
        if turning:
            async with beating(facts):
                yield f"http://127.0.0.1:{face.port}/"
        else:
            yield f"http://127.0.0.1:{face.port}/"
