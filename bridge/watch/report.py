"""The shape of what `/healthz` says: `docs/health.schema.json` and `docs/health.md` are made from it.

Who reads the report by program relies on it: nothing of it goes away or changes its meaning. Instants are RFC 3339, in UTC, to
the second. Counts are since the start, in messages where nothing else is said.
"""

from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # before Python 3.12 pydantic, which brings it, reads no other

from bridge.watch.consumer import ConsumerStatus
from bridge.watch.facts import Status

_closed = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_closed
class ComponentReport(TypedDict):
    """One thing that can be up or down."""

    status: Status
    """`starting` until it has worked or failed for the first time; then how it went the last time."""
    since: str
    """Since when it has been so."""
    last_ok: str | None
    """When it last worked."""
    last_error: str | None
    """What went wrong last, however long ago; where the cause is known, with what would be right."""
    last_error_at: str | None
    """When that was."""
    advice: str | None
    """While it fails: what that means for the messages, and where to look."""


@_closed
class ConnectionReport(TypedDict):
    """One client of the consumer group, as the service lists it; a text that it doesn't give is empty."""

    client_id: str
    """What the service calls it."""
    address: str
    """An IP address, perhaps with a port."""
    language: str
    """What it is written in."""
    version: str
    """The version of its protocol."""


@_closed
class ConsumerReport(TypedDict):
    """What the management API says of the consumer group; null is unknown."""

    status: ConsumerStatus
    """`disabled`: nobody asks. `not_listed`: the service says that nobody is online, though our own polls succeed.
    `offline`: it says so, and our own polls don't succeed either. `unknown`: there is no answer that says it."""
    reason: str | None
    """Why the status is no better, or what else couldn't be found out."""
    checked_at: str | None
    """When the last answer came, or didn't."""
    model: str | None
    """`CLUSTERING` or `BROADCASTING`."""
    connected: int | None
    """How many clients of the group are connected."""
    connections: list[ConnectionReport]
    """The first 100 of them."""
    backlog_messages: int | None
    """How many messages the group has not consumed yet."""
    delay_seconds: float | None
    """How old the oldest of them is."""


@_closed
class PollingReport(TypedDict):
    """How messages are asked for."""

    pollers: int
    """How many poll at the moment: one when idle."""
    paused: str | None
    """Why nothing is polled on purpose; null when polls are made."""
    short_polls: str | None
    """What is wrong with long polls; null while the broker holds them."""
    polls: dict[str, int]
    """Finished polls by result: `messages`, `empty`, `early` (empty much sooner than asked), `error`, and `cut`, whose answer
    was lost, and with it, for one lease, what it brought."""
    acks: int
    """Ack calls."""


@_closed
class CallsReport(TypedDict):
    """API calls by kind."""

    consume: int
    """Polls."""
    ack: int
    """Acks, of up to 16 messages each."""


@_closed
class BillingReport(TypedDict):
    """What it costs."""

    calls: CallsReport
    """API calls that were tried."""
    calls_per_acked_message: float | None
    """API calls for each message that was acked; null before the first."""
    billed_units: int
    """An estimate of what the service bills: what was delivered, and one for each poll that brought nothing."""


@_closed
class ThroughputReport(TypedDict):
    """How much went through lately; null in the first seconds."""

    over_seconds: float
    """The time that the rates are about, about a minute."""
    received_per_second: float
    """Messages received."""
    acked_per_second: float
    """Messages acked, which is the end of their way."""


@_closed
class LeasesReport(TypedDict):
    """The messages that are ours at the moment: received, and neither acked nor left."""

    in_hand: int
    """How many there are."""
    shortest_seconds: float | None
    """When the first of their leases ends, in seconds from now; null when there is none."""


@_closed
class MessagesReport(TypedDict):
    """What became of the messages."""

    received: int
    """Deliveries received; a redelivery counts again."""
    damaged: int
    """Could not be read."""
    confirmed: int
    """Confirmed by every sink, or buried as a dead letter."""
    refused: int
    """Refused for good by a sink."""
    retried: int
    """Sends of events beyond the first."""
    dead_letters: dict[str, int]
    """Confirmed by the dead-letter sink, by reason: `refused`, `damaged`, `deliveries`."""
    trials: int
    """Polled one at a time while a sink was down, to find out whether it is up again."""
    remembered: int
    """Redeliveries that were acked without being sent, as the sinks had confirmed them before."""
    acked: int
    """Acked: the broker won't deliver them again."""
    not_acked: dict[str, int]
    """Confirmed and yet not acked, by the broker's code, or `expired`, or `shutdown`."""
    left: dict[str, int]
    """Left to the broker, which delivers them again when their lease ends, by reason."""
    beside: int
    """Seen through beside the flow at the moment: waiting to be tried again, or for the sink's answer."""


@_closed
class Report(TypedDict):
    """The whole report."""

    status: Literal["starting", "ok", "failing", "draining"]
    """`starting`: something has not worked yet, nor failed. `failing`: some component fails, or the event loop is stuck;
    `ready` tells whether messages flow all the same."""
    reason: str | None
    """Why the status is not `ok`; null when it is."""
    version: str
    """Of rocketmq-bridge."""
    since: str
    """When it started."""
    connected: bool
    """Whether the last finished poll succeeded."""
    ready: bool
    """What `/readyz` says."""
    stuck_seconds: float
    """For how long the event loop has not turned; 0 when it turns. While it doesn't, everything else here is as old."""
    components: dict[str, ComponentReport]
    """By name: `rocketmq` (polls), `rocketmq acks`, `sink <name>` for each sink, and, where there is one, `dead_letter`,
    `ledger` (shared through Redis), `credentials` (that may be replaced), `management` (the API), `tracing` (exporting
    spans)."""
    consumer: ConsumerReport
    """What the management API says of the consumer group."""
    credentials_expire_at: str | None
    """When the credentials in force expire; null when they don't, or nobody has said when."""
    polling: PollingReport
    """How messages are asked for."""
    throughput: ThroughputReport | None
    """How much went through lately; null in the first seconds."""
    leases: LeasesReport
    """The messages that are ours at the moment."""
    messages: MessagesReport
    """What became of the messages."""
    billing: BillingReport
    """What it costs."""
