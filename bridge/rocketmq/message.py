"""The service's own nouns, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_BATCH = 16
"""The most messages that one poll returns, and the most receipt handles that one ack takes (protocol.md 2.1, 3.1)."""

MAX_WAIT_SECONDS = 30
"""The longest long poll, in seconds (protocol.md 2.1)."""

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The largest body of a message, in bytes of UTF-8 (protocol.md 9)."""

MAX_REQUEST_LINE = 1024
"""The longest request line, in characters, from the method to `HTTP/1.1` (protocol.md 2.1)."""

MAX_RETRIES = 288
"""How often the broker delivers a message again before it gives up on it (protocol.md 6)."""

KEYS = "KEYS"
SHARDING_KEY = "__SHARDINGKEY"
START_DELIVER_TIME = "__STARTDELIVERTIME"
TRANSACTION_CHECK = "__TransCheckT"
BORN_HOST = "__BORNHOST"
"""The reserved names among a message's properties (protocol.md 5.3)."""


@dataclass(slots=True, kw_only=True)
class Message:
    """One delivery of one message (protocol.md 2.3). Instants are milliseconds since the epoch, on the broker's clock.

    Nothing in it changes. It isn't frozen, as that takes 0.7 us for each, three times what making one takes; so too the other
    two that are made of every message, Event and Delivery.
    """

    message_id: str
    """Constant across redeliveries; 32 upper-case hexadecimal digits from the real service."""
    body: str
    """Text of at most 4 MB in UTF-8; the protocol knows no other kind of body."""
    body_md5: str | None
    """The service's MD5 of the body, in upper-case hexadecimal; None where it sent none."""
    receipt_handle: str
    """Acks this delivery, once, until `next_consume_time`; every delivery of a message has another."""
    publish_time: int | None
    """None where the service sent none that can be read; so too `first_consume_time`."""
    first_consume_time: int | None
    """When the group was first given the message; meaningless when consuming in order (protocol.md 2.3)."""
    next_consume_time: int
    """The end of the lease: from then on the broker delivers the message again."""
    consumed_times: int
    """How often it has been delivered, this delivery included: 1 for the first (protocol.md 6)."""
    tag: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    """Every property the message carries, the reserved ones of protocol.md 5.3 among them."""

    @property
    def keys(self) -> str | None:
        """The message key (property `KEYS`)."""
        return self.properties.get(KEYS) or None

    @property
    def sharding_key(self) -> str | None:
        """The shard within which an ordered topic keeps its order."""
        return self.properties.get(SHARDING_KEY) or None
