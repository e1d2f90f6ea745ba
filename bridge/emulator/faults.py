"""What can be made to go wrong, while it runs."""

import random
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""How much of something is hit: 0 is none of it, 1 is all, between them chance decides."""

Seconds = Annotated[float, Field(ge=0)]


def _from_json(value: Any) -> Any:
    """As a variable of the environment it is JSON."""
    return orjson.loads(value) if isinstance(value, str) else value  # whose error is a ValueError


class Faults(BaseModel):
    """Everything is off by default. A value out of range raises `pydantic.ValidationError`, on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, use_attribute_docstrings=True)

    internal_error: Share = 0.0
    """Share of calls answered with 500 and an `InternalError` in XML, without effect."""
    bad_gateway: Share = 0.0
    """Share of calls answered with 502 and a page of HTML, without effect."""
    unavailable: Share = 0.0
    """Share of calls answered with an empty 503, without effect."""
    throttled: Share = 0.0
    """Share of calls answered with 400 `QpsLimitExceeded`, without effect."""
    stalled: Share = 0.0
    """Share of calls that are taken and never answered, without effect."""
    cut_before: Share = 0.0
    """Share of calls whose connection is cut, without effect."""
    cut_after: Share = 0.0
    """Share of calls whose connection is cut after they took effect: the answer is lost."""

    ack_answer_lost: Share = 0.0
    """Share of acks that take effect and whose connection is then cut."""
    ack_refused: Share = 0.0
    """Share of acks answered with 500 `InternalError`, without effect."""
    ack_stuck: bool = False  # protocol.md 3.4
    """Once a message has been delivered again, every ack of it is answered with a `ReceiptHandleError` whose
    `ReceiptHandle` is empty, and changes nothing."""

    early_not_exist: Share = 0.0
    """Share of the long polls with nothing to deliver that are answered at once."""
    open_poll_limit: Annotated[int, Field(ge=0)] | None = None  # protocol.md 2.2
    """While an instance has this many open long polls, further ones are answered at once, as the service does from
    100 on; no limit when not set."""
    strand_abandoned_polls: bool = False
    """A long poll whose client has gone still waits, and what it gets is leased to nobody."""

    illegal_character: Share = 0.0  # protocol.md 5.4
    """Share of deliveries whose body holds `&#1;`, which XML forbids; the MD5 fits it."""
    wrong_md5: Share = 0.0
    """Share of deliveries with the MD5 of another body."""
    missing_id: Share = 0.0
    """Share of deliveries without a `MessageId`."""
    missing_body: Share = 0.0
    """Share of deliveries without a `MessageBody`."""
    broken_xml: Share = 0.0
    """Share of deliveries with a bare `<` in the body, so that the whole answer is not well-formed."""
    empty_ok: Share = 0.0
    """Share of polls answered with 200 and an empty body, without effect."""
    no_messages_ok: Share = 0.0
    """Share of polls answered with 200 and `<Messages>` without a message, without effect."""
    endless: Share = 0.0
    """Share of polls answered with 200 and a message whose body never ends, without effect."""

    management_error: str | None = None
    """The code that the management API answers every call with, as `Throttling.User` or `NoPermission`; none when not set."""
    management_error_status: Annotated[int, Field(ge=400, le=599)] | None = None
    """The HTTP status of that answer; 400 when not set."""
    management_retry_after_ms: Annotated[int, Field(ge=1)] | None = None
    """What that answer's header `x-acs-retry-after` says, in milliseconds; there is none when not set."""
    management_garbage: Share = 0.0
    """Share of the management calls answered with 200 and a page of HTML."""
    management_stalled: Share = 0.0
    """Share of the management calls that are never answered."""
    management_unlisted: bool = False  # protocol.md 8.5
    """The management API lists nobody and says that no group is online, though consumers poll."""
    management_offline_empty: bool = False
    """That nobody is online is said with 200 and an empty list, in place of 400 `BIZ_CONSUMER_NOT_ONLINE`."""
    management_delay_seconds: Seconds | None = None
    """The delay that the management API tells of every group; the true one when not set."""
    management_answers: Annotated[dict[str, dict[str, Any]], BeforeValidator(_from_json)] = {}
    """What to answer in place of the truth: JSON objects by operation, as `{"OnsConsumerAccumulate": {"Data": {}}}`."""

    clock_offset_seconds: float = 0.0
    """How far the service's clock is ahead: its Date header, its check of dates, its leases, all its instants."""
    key_withdrawn: bool = False
    """Every call is answered with 403 `InvalidAccessKeyId`."""
    consume_denied: bool = False
    """Every poll is answered with 403 `AccessDenied`."""
    ack_denied: bool = False
    """Every ack, commit and rollback is answered with 403 `AccessDenied`."""
    publish_denied: bool = False
    """Every publish is answered with 403 `AccessDenied`."""

    answer_delay_seconds: Seconds = 0.0
    """How long every answer is held back, after the call took effect."""
    trickle_seconds: Seconds = 0.0
    """The pause after every byte of an answer's body."""


def hits(share: float, rng: random.Random) -> bool:
    """Whether chance picks this one; draws nothing when the answer is certain."""
    return share >= 1 or (share > 0 and rng.random() < share)
