"""A message at rest, and its way to one consumer group."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.emulator.handles import ReceiptHandle
from bridge.rocketmq.message import SHARDING_KEY, Message


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredMessage:
    """What a producer published. Instants are milliseconds since the epoch."""

    message_id: str
    body: str
    body_md5: str
    tag: str | None
    properties: Mapping[str, str]
    publish_time: int

    @property
    def shard(self) -> str:
        """What orders it; messages without a sharding key share one shard."""
        return self.properties.get(SHARDING_KEY, "")


class State(enum.Enum):
    """Where a message stands on its way to a group."""

    READY = "ready"
    LEASED = "leased"
    ACKED = "acked"
    DEAD = "dead_lettered"


@dataclass(slots=True, eq=False)
class Entry:
    """One message's way to one group, or a half message's way back to its producer."""

    message: StoredMessage
    sequence: int
    nonce: int
    state: State = State.READY
    consumed_times: int = 0
    first_consume_time: int | None = None
    next_consume_time: int = 0

    def lease(self, now: int, until: int) -> Message:
        """Deliver it once more: the delivery that a consumer sees, held for it until `until` (ms)."""
        self.state = State.LEASED
        self.consumed_times += 1
        self.next_consume_time = until
        if self.first_consume_time is None:
            self.first_consume_time = now
        message = self.message
        return Message(
            message_id=message.message_id,
            body=message.body,
            body_md5=message.body_md5,
            receipt_handle=str(ReceiptHandle(message.message_id, self.nonce, self.consumed_times)),
            publish_time=message.publish_time,
            first_consume_time=self.first_consume_time,
            next_consume_time=until,
            consumed_times=self.consumed_times,
            tag=message.tag,
            properties=message.properties,
        )

    def refusal(self, now: int, handle: ReceiptHandle) -> str | None:
        """Why this handle doesn't settle the delivery (protocol.md 6, ack edge rules); None when it does."""
        if handle.nonce != self.nonce or handle.delivery > self.consumed_times:
            return "ReceiptHandleError"
        if self.state is not State.LEASED or handle.delivery != self.consumed_times or now >= self.next_consume_time:
            return "MessageNotExist"
        return None


@dataclass(frozen=True, slots=True)
class AckFailure:
    """One handle of an ack that settled nothing: its `<Error>` among the `<Errors>` (protocol.md 3.2)."""

    code: str
    """`ReceiptHandleError` for what was never a handle here, `MessageNotExist` for one that has had its time."""
    receipt_handle: str
