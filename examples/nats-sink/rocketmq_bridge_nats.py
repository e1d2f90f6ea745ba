"""A sink of rocketmq-bridge: events into a stream of NATS JetStream.

Each event is one message, in its envelope, whose `Nats-Msg-Id` is the message id: the server drops what it is sent twice within
the stream's duplicate window.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import nats.errors
import nats.js.errors
from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, ProbedSink, Refused, Unknown
from nats.aio.client import Client
from nats.js.api import Header
from pydantic import BaseModel, ConfigDict, Field, SecretStr

CONNECT_SECONDS = 3.0
PROBE_SECONDS = 3.0
FLUSH_SECONDS = 1.5
"""Flushing and closing together stay within the three seconds that the bridge waits."""
DISCONNECT_SECONDS = 1.0

MESSAGE_TOO_LARGE = 10054
"""The server's code for a message over the stream's `max_msg_size`; the others may pass."""

NO_STREAM: Final = Again("no stream takes the subject: create one, or set another by BRIDGE_NATS__SUBJECT")


class NatsSettings(BaseModel):
    """Read from `BRIDGE_NATS__…`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: str = Field(default="nats://127.0.0.1:4222", description="the servers' URLs, with commas")
    subject: str = Field(
        pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$", description="the subject of every message; a stream must take it"
    )
    user: str | None = Field(default=None, description="the user")
    password: SecretStr | None = Field(default=None, description="the user's password")
    ack_seconds: float = Field(
        default=30.0, gt=0, description="how long an acknowledgement may take before the event is sent again"
    )


class NatsSink(ProbedSink):
    """Publishes each event, and confirms it when the stream has stored it."""

    Settings = NatsSettings
    destination = ("subject",)

    def __init__(self, settings: NatsSettings) -> None:
        """Nothing is connected yet."""
        super().__init__(settings)
        self._settings = settings
        self._client = Client()  # not connected; `open` replaces it by one that is
        self._out: set[asyncio.Future[Confirmed | Refused | Again]] = set()

    async def open(self) -> None:
        """Connect; from then on the client connects again by itself. Raises SinkDownError."""
        client, password = Client(), self._settings.password
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect(
                    servers=self._settings.servers.split(","),
                    user=self._settings.user,
                    password=password.get_secret_value() if password else None,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    pending_size=0,  # what waits in a buffer for a connection is on its way without anybody knowing
                    error_cb=_say_nothing,
                )
        except (nats.errors.Error, OSError, TimeoutError) as problem:
            await client.close()
            raise SinkDownError(f"connecting to NATS: {_text(client.last_error or problem)}") from problem
        self._client = client

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """Publish all at once; who has no acknowledgement at the deadline is Unknown. Raises SinkDownError."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            return [Again("too late to begin")] * len(events)
        if not self._client.is_connected:
            raise SinkDownError("there is no connection to NATS")
        answers = [self._hand_over(event) for event in events]
        await asyncio.wait(answers, timeout=deadline - loop.time())
        outcomes = [answer.result() if answer.done() else Unknown(answer) for answer in answers]
        if all(outcome == NO_STREAM for outcome in outcomes):
            raise SinkDownError(NO_STREAM.reason)
        return outcomes

    def _hand_over(self, event: Event) -> "asyncio.Future[Confirmed | Refused | Again]":
        # A task of its own: whoever stops waiting for it doesn't stop it.
        answer: asyncio.Future[Confirmed | Refused | Again] = asyncio.ensure_future(self._publish(event))
        self._out.add(answer)
        answer.add_done_callback(self._out.discard)
        return answer

    async def _publish(self, event: Event) -> Confirmed | Refused | Again:
        headers = {Header.MSG_ID: event.id, "Content-Type": event.media_type, **dict(event.trace_headers)}
        try:
            await self._client.jetstream().publish(
                self._settings.subject, event.structured(), timeout=self._settings.ack_seconds, headers=headers
            )
        except nats.errors.MaxPayloadError:
            return Refused(f"larger than the server's max_payload, {self._client.max_payload:,} bytes")
        except nats.js.errors.NoStreamResponseError:
            return NO_STREAM
        except nats.js.errors.APIError as problem:
            reason = problem.description or _text(problem)
            return Refused(reason) if problem.err_code == MESSAGE_TOO_LARGE else Again(reason)
        except (nats.errors.Error, OSError) as problem:
            return Again(_text(problem))
        return CONFIRMED

    async def probe(self) -> None:
        """Ask whether a stream takes the subject. Raises SinkDownError."""
        if not self._client.is_connected:
            raise SinkDownError("there is no connection to NATS")
        try:
            await self._client.jetstream(timeout=PROBE_SECONDS).find_stream_name_by_subject(self._settings.subject)
        except nats.js.errors.NotFoundError as problem:
            raise SinkDownError(NO_STREAM.reason) from problem
        except nats.errors.Error as problem:
            raise SinkDownError(f"asking NATS for the stream: {_text(problem)}") from problem

    async def close(self) -> None:
        """Wait for acknowledgements that are out, and disconnect; both are bounded."""
        if self._out:
            await asyncio.wait(self._out, timeout=FLUSH_SECONDS)
        await asyncio.wait([asyncio.ensure_future(self._client.close())], timeout=DISCONNECT_SECONDS)


async def _say_nothing(_: Exception) -> None:
    """Leave it to `send` and `probe`: the bridge logs an outage once, and the client would log every try to end it."""


def _text(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
