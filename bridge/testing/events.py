"""Events as the bridge makes them, for tests that have no broker."""

import secrets
import time
from collections.abc import Mapping

from bridge.event import CLOUDEVENTS, Envelope, Event, Origin
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.message import SHARDING_KEY, Message

_ORIGIN = Origin(topic="orders", group="GID_orders")
_LEASE_MILLISECONDS = 300_000


def make_event(
    body: str = "a message",
    *,
    message_id: str | None = None,
    tag: str | None = None,
    shard: str | None = None,
    properties: Mapping[str, str] | None = None,
    envelope: Envelope = CLOUDEVENTS,
) -> Event:
    """The event that the bridge makes of a message with this body, published now and delivered for the first time.

    Without `message_id` it is one that was never used before: 32 upper-case hexadecimal digits, as from the real service.
    `shard` is the sharding key. Raises ValueError for a message that no event can carry.
    """
    now = round(time.time() * 1000)
    message = Message(
        message_id=message_id or secrets.token_hex(16).upper(),
        body=body,
        body_md5=None,
        receipt_handle="receipt",
        publish_time=now,
        first_consume_time=now,
        next_consume_time=now + _LEASE_MILLISECONDS,
        consumed_times=1,
        tag=tag,
        properties={**(properties or {}), **({SHARDING_KEY: shard} if shard is not None else {})},
    )
    conversion = Conversion(
        origin=_ORIGIN, source=f"/rocketmq/{_ORIGIN.topic}", type_="com.aliyun.rocketmq.message", envelope=envelope
    )
    return conversion.event(message)
