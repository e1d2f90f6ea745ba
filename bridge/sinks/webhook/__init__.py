"""Events posted to an HTTP endpoint: the CloudEvents HTTP binding, signed as Standard Webhooks has it.

An attempt is one request, with one event or one batch, and holds one of `MAX_CONNECTIONS` slots while it lasts. What waits for
a slot has not begun, and is given back at the deadline; what has begun is seen to its end, which `TIMEOUT_SECONDS` bounds.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from bridge.environment import without_credentials
from bridge.errors import SinkDownError, TryAgainError
from bridge.event import Event
from bridge.sinks import Again, Confirmed, Outcome, ProbedSink, Refused, Unknown
from bridge.sinks.webhook.answers import Answer, outcome_of
from bridge.sinks.webhook.authorization import Authorization, authorization_of
from bridge.sinks.webhook.binding import Written, groups, written
from bridge.sinks.webhook.http import Http
from bridge.sinks.webhook.settings import WebhookSettings, url_of
from bridge.sinks.webhook.signing import Signer, keys_of
from bridge.sinks.webhook.tls import ReceiverTls

PROBE_SECONDS = 5.0
"""How long a probe may take."""
CLOSE_SECONDS = 2.0
"""How long closing waits for what is on its way."""

_TOO_LATE = Again("not begun in time")


@dataclass(slots=True, eq=False)
class _Pending:
    """An event, until it is known what became of it."""

    event: Event
    answer: "asyncio.Future[Confirmed | Refused | Again]"
    on_its_way: bool = False


@dataclass(slots=True, eq=False)
class _Call:
    """One `send`."""

    deadline: float
    pending: list[_Pending] = field(default_factory=list)
    answered: bool = False
    trouble: SinkDownError | None = None
    """What the endpoint has for trouble, since the first attempt that met it."""


class WebhookSink(ProbedSink):
    """Posts events to a URL. `wall_clock` tells seconds since the epoch, for signatures and `Retry-After`."""

    Settings = WebhookSettings
    destination = ("url",)
    settings: WebhookSettings

    def __init__(self, settings: WebhookSettings, *, wall_clock: Callable[[], float] = time.time) -> None:
        super().__init__(settings)
        self._wall_clock = wall_clock
        self._url = url_of(settings.url).with_user(None)
        self._where = without_credentials(str(self._url))
        self._static = {name: value.get_secret_value() for name, value in (settings.headers or {}).items()}
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._attempts: set[asyncio.Task[None]] = set()
        self._closing = False
        self._http: Http | None = None
        self._authorization: Authorization | None = None
        self._signer: Signer | None = None

    async def open(self) -> None:
        """Read certificates, fetch a token and probe, where there are any. Raises SinkDownError or FixSettingsError."""
        settings = self.settings
        if settings.signing_secret:
            self._signer = Signer(keys_of(settings.signing_secret.get_secret_value()))
        if self._http is None:
            tls = ReceiverTls(settings)
            self._http = Http(self._url, "URL", tls=tls.context, max_connections=settings.max_connections + 1)
        if self._authorization is None:
            self._authorization = authorization_of(settings, asyncio.get_running_loop().time)
        await self._authorization.header()
        await self.probe()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """Post the events; see `Sink.send`."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            return [_TOO_LATE] * len(events)
        call = _Call(deadline, [_Pending(event, loop.create_future()) for event in events])
        attempts = [self._start(call, group) for group in groups(self.settings.mode, self.settings.batch_max, events)]
        await asyncio.wait(attempts, timeout=deadline - loop.time())
        call.answered = True
        for attempt in attempts:
            if attempt.done() and not attempt.cancelled():
                attempt.result()  # raises what should never be, to be seen
        outcomes = [_outcome(pending) for pending in call.pending]
        if call.trouble and not any(isinstance(outcome, Confirmed | Unknown) for outcome in outcomes):
            raise call.trouble
        return outcomes

    async def probe(self) -> None:
        """Ask PROBE_URL, if it is set; without, an event has to find out. Raises SinkDownError unless the answer is 2xx."""
        if self.settings.probe_url is None:
            return
        assert self._http, "a sink is opened first"
        url = url_of(self.settings.probe_url)
        where = without_credentials(str(url))
        # nobody but the receiver is told who we are
        headers = await self._identity() if url.origin() == self._url.origin() else {}
        try:
            answer = await self._http.exchange(
                "GET", url, headers=headers, timeout_seconds=min(PROBE_SECONDS, self.settings.timeout_seconds)
            )
        except TryAgainError as problem:
            raise SinkDownError(f"probing {where}: {problem}") from problem
        if answer.status == HTTPStatus.UNAUTHORIZED and self._authorization:
            self._authorization.renew(headers.get("Authorization"))
        if not answer.is_success:
            raise SinkDownError(f"probing {where}: answered {answer.said(self._hidden(headers))}")

    async def close(self) -> None:
        """Wait for what is on its way, for two seconds at most, and close all connections."""
        self._closing = True
        try:
            if self._attempts:
                await asyncio.wait(self._attempts, timeout=CLOSE_SECONDS)
        finally:
            unfinished = [attempt for attempt in self._attempts if attempt.cancel()]
            await asyncio.gather(*unfinished, return_exceptions=True)
            for resource in (self._authorization, self._http):
                if resource:
                    await resource.close()

    # ---- one attempt -------------------------------------------------------------------------------------------------

    def _start(self, call: _Call, group: Sequence[int]) -> asyncio.Task[None]:
        attempt = asyncio.create_task(self._deliver(call, [call.pending[place] for place in group]))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        return attempt

    async def _deliver(self, call: _Call, group: Sequence[_Pending]) -> None:
        """Settle what becomes of a group; a batch that is refused is split until it is known which event is meant."""
        try:
            outcome = await self._attempt(call, group)
            if isinstance(outcome, Refused) and len(group) > 1:
                middle = len(group) // 2
                await asyncio.gather(self._deliver(call, group[:middle]), self._deliver(call, group[middle:]))
                return
            for pending in group:
                pending.answer.set_result(outcome)
        finally:
            for pending in group:
                if not pending.answer.done():
                    pending.answer.set_result(Again("the sink was closed"))

    async def _attempt(self, call: _Call, group: Sequence[_Pending]) -> Confirmed | Refused | Again:
        try:
            async with asyncio.timeout_at(call.deadline):
                await self._slots.acquire()
        except TimeoutError:
            return _TOO_LATE
        try:
            return await self._post(call, group)
        except _TooLateError:
            return _TOO_LATE
        except SinkDownError as problem:
            call.trouble = call.trouble or problem
            return Again(str(problem))
        except TryAgainError as problem:
            return Again(str(problem))
        finally:
            self._slots.release()

    async def _post(self, call: _Call, group: Sequence[_Pending]) -> Confirmed | Refused | Again:
        """Post a group, once more when it is rejected for a token that can be renewed."""
        assert self._authorization, "a sink is opened first"
        request = written(self.settings.mode, [pending.event for pending in group])
        identity = await self._identity_in_time(call)
        answer = await self._exchange(group, request, identity)
        if answer.status == HTTPStatus.UNAUTHORIZED and self._authorization.renew(identity.get("Authorization")):
            identity = await self._identity_in_time(call)
            answer = await self._exchange(group, request, identity)
        return outcome_of(answer, where=self._where, now=self._wall_clock(), hidden=self._hidden(identity))

    async def _identity_in_time(self, call: _Call) -> Mapping[str, str]:
        """Who we are to the receiver, as long as a request of this call may begin. Raises _TooLateError and SinkDownError."""
        try:
            async with asyncio.timeout_at(call.deadline):
                identity = await self._identity()
        except TimeoutError:
            raise _TooLateError from None
        if self._closing or call.answered or asyncio.get_running_loop().time() >= call.deadline:
            raise _TooLateError
        if call.trouble:
            raise call.trouble
        return identity

    async def _exchange(self, group: Sequence[_Pending], request: Written, identity: Mapping[str, str]) -> Answer:
        assert self._http, "a sink is opened first"
        signature = self._signer.headers(request.id, request.body, self._wall_clock()) if self._signer else {}
        for pending in group:
            pending.on_its_way = True
        try:
            return await self._http.exchange(
                "POST",
                self._url,
                headers={**identity, **request.headers, **signature},
                timeout_seconds=self.settings.timeout_seconds,
                body=request.body,
            )
        finally:
            for pending in group:
                pending.on_its_way = False

    async def _identity(self) -> Mapping[str, str]:
        """The headers that say who we are. Raises SinkDownError."""
        assert self._authorization, "a sink is opened first"
        value = await self._authorization.header()
        return {**self._static, "Authorization": value} if value else self._static

    def _hidden(self, identity: Mapping[str, str]) -> list[str]:
        """What the receiver was told that must not be shown when it repeats it."""
        credentials = identity.get("Authorization", "").partition(" ")[2]
        return [credentials, *self._static.values(), self._url.raw_query_string, self._url.query_string]


class _TooLateError(Exception):
    """The deadline has come, or the end of the sink: nothing is begun any more."""


def _outcome(pending: _Pending) -> Outcome:
    if pending.answer.done():
        return pending.answer.result()
    return Unknown(pending.answer) if pending.on_its_way else _TOO_LATE
