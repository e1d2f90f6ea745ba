"""The three calls of the HTTP API, from authorised bytes to an answer; knows no HTTP library."""

import asyncio
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.emulator import wire
from bridge.emulator.authorization import Headers, authorize, check_digest
from bridge.emulator.books import Call
from bridge.emulator.broker import Broker
from bridge.emulator.connections import Connections, Peer
from bridge.emulator.damage import write_damaged
from bridge.emulator.errors import ServiceError
from bridge.emulator.faults import Faults, hits
from bridge.emulator.handles import parse_handle
from bridge.emulator.polls import Place, Polls
from bridge.emulator.requests import Ack, Consume, Publish, parse_request
from bridge.emulator.stored import AckFailure
from bridge.rocketmq.message import BORN_HOST, KEYS, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, as it was sent."""

    method: str
    target: str
    """Path and query, exactly as on the request line."""
    headers: Headers = field(repr=False)
    body: bytes
    peer: Peer
    request_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    lost: bool = False
    """The connection is cut instead of sending it."""
    endless: bool = False
    """The body is only a beginning."""


@dataclass(slots=True)
class AccessKey:
    """The one key that the emulator knows; another may take its place while it runs."""

    key_id: str
    secret: str = field(repr=False)


class Api:
    """Answers calls. `now` reads the service's clock, in milliseconds.

    With `service_properties`, a message published without a key gets the request id as its key, and every message
    published gets `__BORNHOST`, as with the real service (protocol.md 4.2, 5.3).
    """

    def __init__(
        self,
        broker: Broker,
        polls: Polls,
        connections: Connections,
        *,
        access_key: AccessKey,
        faults: Faults,
        now: Callable[[], int],
        rng: random.Random,
        service_properties: bool,
    ) -> None:
        self._broker = broker
        self._polls = polls
        self._connections = connections
        self._access_key = access_key
        self._faults = faults
        self._now = now
        self._rng = rng
        self._service_properties = service_properties
        self._detached: set[asyncio.Task[list[Message]]] = set()

    async def answer(self, request: Request) -> Answer:
        """Do what a request asks for."""
        try:
            call = parse_request(request.method, request.target)
            self._authorize(request)
            if isinstance(call, Consume):
                return await self._consume(call, request.peer)
            if isinstance(call, Ack):
                return self._ack(call, request.body)
            return self._publish(call, request)
        except ServiceError as error:
            return refuse(error, request)

    async def close(self) -> None:
        """Give up the polls whose clients have gone, if any still wait."""
        for task in self._detached:
            task.cancel()
        await asyncio.gather(*self._detached, return_exceptions=True)

    def _authorize(self, request: Request) -> None:
        if self._faults.key_withdrawn:
            raise ServiceError("InvalidAccessKeyId")
        authorize(
            request.method,
            request.target.encode("utf-8", "surrogateescape"),
            request.headers,
            now=self._now(),
            access_key_id=self._access_key.key_id,
            access_key_secret=self._access_key.secret,
        )
        check_digest(request.headers, request.body)
        if self._hits(self._faults.internal_error):
            raise ServiceError("InternalError")
        if self._hits(self._faults.throttled):
            raise ServiceError("QpsLimitExceeded")

    async def _consume(self, call: Consume, peer: Peer) -> Answer:
        kind = "consume_half" if call.half else "consume"
        self._broker.calls[Call(kind, call.instance, call.topic, call.group)] += 1
        if self._faults.consume_denied:
            raise ServiceError("AccessDenied")
        if not call.half:  # which its producers ask for
            tags = call.subscription.tags
            self._connections.note_poll(
                self._now(), peer, instance=call.instance, group=call.group, topic=call.topic, tags=tags
            )
        if self._hits(self._faults.empty_ok):
            return Answer(200)
        if self._hits(self._faults.no_messages_ok):
            return Answer(200, wire.write_messages([]))
        if self._hits(self._faults.endless):
            return Answer(200, wire.ENDLESS, endless=True)
        messages = await self._take(call)
        if not messages:
            raise ServiceError("MessageNotExist")
        return Answer(200, wire.write_messages([write_damaged(message, self._faults, self._rng) for message in messages]))

    async def _take(self, call: Consume) -> list[Message]:
        wait = call.wait
        limit = self._faults.open_poll_limit
        if (limit is not None and self._polls.open(call.instance) >= limit) or self._hits(self._faults.early_not_exist):
            wait = 0
        place = Place(call.instance, call.topic, None if call.half else call.group)
        take = functools.partial(self._polls.take, place, call.subscription, count=call.count, wait=wait)
        if not self._faults.strand_abandoned_polls:
            return await take()
        task = asyncio.create_task(take())
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        return await asyncio.shield(task)

    def _ack(self, call: Ack, body: bytes) -> Answer:
        self._broker.calls[Call(call.kind, call.instance, call.topic, call.group)] += 1
        if self._faults.ack_denied:
            raise ServiceError("AccessDenied")
        if self._hits(self._faults.ack_refused):
            raise ServiceError("InternalError")
        handles = wire.read_receipt_handles(body)
        now = self._now()
        if call.kind == "ack":
            failures = self._settle(now, call, handles)
            self._polls.serve(Place(call.instance, call.topic, call.group))
        else:
            commit = call.kind == "commit"
            failures = self._broker.resolve(now, call.topic, handles, commit=commit, instance=call.instance)
            self._polls.serve_topic(call.instance, call.topic)
        lost = self._hits(self._faults.ack_answer_lost)
        if failures:
            return Answer(404, wire.write_ack_failures(failures), lost)
        return Answer(204, lost=lost)

    def _settle(self, now: int, call: Ack, handles: list[str]) -> list[AckFailure]:
        stuck = {handle for handle in handles if self._faults.ack_stuck and _is_redelivery(handle)}
        acked = [handle for handle in handles if handle not in stuck]
        failures = self._broker.ack(now, call.topic, call.group, acked, instance=call.instance)
        return failures + [AckFailure("ReceiptHandleError", "") for _ in stuck]

    def _publish(self, call: Publish, request: Request) -> Answer:
        self._broker.calls[Call("publish", call.instance, call.topic, None)] += 1
        if self._faults.publish_denied:
            raise ServiceError("AccessDenied")
        document = wire.read_publish(request.body)
        properties = document.properties
        if self._service_properties:
            properties.setdefault(KEYS, request.request_id)
            if ":" not in request.peer.address:  # an IPv6 address can't stand in a property (protocol.md 5.2)
                properties[BORN_HOST] = request.peer.address
        published = self._broker.publish(
            self._now(), call.topic, document.body, instance=call.instance, tag=document.tag, properties=properties
        )
        self._polls.serve_topic(call.instance, call.topic)
        return Answer(201, wire.write_published(published))

    def _hits(self, share: float) -> bool:
        return hits(share, self._rng)


def refuse(error: ServiceError, request: Request) -> Answer:
    """The answer that says so."""
    host = request.headers.get(b"host", b"localhost").decode("latin-1")
    return Answer(error.status, wire.write_error(error, request_id=request.request_id, host_id=f"http://{host}"))


def _is_redelivery(text: str) -> bool:
    handle = parse_handle(text)
    return handle is not None and handle.delivery > 1
