"""The official SDK, called as anybody calls it, against the emulator."""

import asyncio
import importlib
from typing import Any

from bridge.emulator.server import Emulator

GROUP, INSTANCE, TOPIC = "GID_a", "MQ_INST_1", "topicA"

METHODS = {
    "OnsConsumerGetConnection": "ons_consumer_get_connection",
    "OnsConsumerAccumulate": "ons_consumer_accumulate",
    "OnsConsumerStatus": "ons_consumer_status",
}


def client(emulator: Emulator, **config: Any) -> Any:
    """A client of the SDK that knows the emulator's key; `config` is the SDK's own."""
    sdk: Any = importlib.import_module("alibabacloud_ons20190214.client")
    utils: Any = importlib.import_module("alibabacloud_tea_openapi.utils_models")
    key = {"access_key_id": "AKID", "access_key_secret": "SECRET"}
    place = {"endpoint": emulator.url.removeprefix("http://"), "protocol": "HTTP"}
    return sdk.Client(utils.Config(**{**key, **place, **config}))


async def call(client: Any, operation: str, *, sync: bool = False, **parameters: Any) -> dict[str, Any]:
    """The body of an answer, as the SDK has understood it. Raises what the SDK raises."""
    models: Any = importlib.import_module("alibabacloud_ons20190214.models")
    request = getattr(models, f"{operation}Request")(**{"group_id": GROUP, "instance_id": INSTANCE, **parameters})
    method = METHODS[operation]
    if sync:
        response = await asyncio.to_thread(getattr(client, method), request)
    else:
        response = await getattr(client, f"{method}_async")(request)
    body: dict[str, Any] = response.body.to_map()
    return body
