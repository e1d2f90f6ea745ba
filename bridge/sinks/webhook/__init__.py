"""Events posted to an HTTP endpoint: the CloudEvents HTTP binding, signed as Standard Webhooks has it.

An attempt is one request, with one event or one batch. `MAX_CONNECTIONS` workers at most make them, one after the other. What
waits for a worker has not begun, and is given back at the deadline; what has begun is seen to its end, which `TIMEOUT_SECONDS`
bounds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from bridge.environment import without_credentials
from bridge.errors import SinkDownError, TryAgainError
from bridge.event import Event
from bridge.sinks import Again, Outcome, ProbedSink, Refused
from bridge.sinks.http import Answer, Http, url_of
from bridge.sinks.sending import Pending, Sending, Settled, settle
from bridge.sinks.webhook.answers import outcome_of
from bridge.sinks.webhook.authorization import authorization_of
from bridge.sinks.webhook.binding import Written, groups, written
from bridge.sinks.webhook.settings import WebhookSettings
from bridge.sinks.webhook.signing import Signer, keys_of
from bridge.sinks.webhook.tls import ReceiverTls

PROBE_SECONDS = 5.0
"""How long a probe may take."""
CLOSE_SECONDS = 2.0
"""How long closing waits for what is on its way."""

_TOO_LATE = Again("not begun in time")
_CLOSED = Again("the sink was closed")


@dataclass(slots=True, eq=False, kw_only=True)
class _Posting(Pending):
    event: Event


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
        self._always_hidden = [*self._static.values(), self._url.raw_query_string, self._url.query_string]
        self._authorization = authorization_of(settings)
        self._waiting: deque[Sequence[_Posting]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False
        self._signer: Signer | None = None
        self._http: Http | None = None
        self._probing: Http | None = None

    async def open(self) -> None:
        """Read certificates, fetch a token and probe, where there are any. Raises SinkDownError or FixSettingsError."""
        settings = self.settings
        if settings.signing_secret:
            self._signer = Signer(keys_of(settings.signing_secret.get_secret_value()))
        if self._http is None:
            tls = ReceiverTls(settings).context
            if settings.probe_url is not None:  # perhaps another server, which another proxy leads to
                self._probing = Http(url_of(settings.probe_url), "PROBE_URL", tls=tls, max_connections=1)
            self._http = Http(self._url, "URL", tls=tls, max_connections=settings.max_connections)
        await self._authorization.header()
        await self.probe()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        """Post the events; see `Sink.send`."""
        sending = Sending(deadline)
        for group in groups(self.settings.mode, self.settings.batch_max, events):
            self._waiting.append([_Posting(sending=sending, event=event) for event in group])
        self._call_workers()
        try:
            return await sending.outcomes(deadline, _TOO_LATE)
        finally:
            if self._waiting and asyncio.get_running_loop().time() >= deadline:  # what was given back is held no longer
                self._waiting = deque(postings for postings in self._waiting if postings[0].answer is None)

    async def probe(self) -> None:
        """Ask PROBE_URL, if it is set; without, an event has to find out. Raises SinkDownError unless the answer is 2xx."""
        if self.settings.probe_url is None:
            return
        assert self._probing, "a sink is opened first"
        url = url_of(self.settings.probe_url)
        where = without_credentials(str(url))
        # nobody but the receiver is told who we are
        identity = await self._identity() if url.origin() == self._url.origin() else {}
        seconds = min(PROBE_SECONDS, self.settings.timeout_seconds)
        try:
            answer = await self._probing.exchange("GET", url, headers=identity, timeout_seconds=seconds)
        except TryAgainError as problem:
            raise SinkDownError(f"probing {where}: {problem}") from problem
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self._authorization.renew(identity.get("Authorization"))
        if not answer.is_success:
            raise SinkDownError(f"probing {where}: answered {answer.said(self._hidden(identity))}")

    async def close(self) -> None:
        """Wait for what is on its way, for two seconds at most, and close all connections."""
        self._closing = True
        try:
            if self._workers:
                await asyncio.wait(self._workers, timeout=CLOSE_SECONDS)
        finally:
            unfinished = [worker for worker in self._workers if worker.cancel()]
            await asyncio.gather(*unfinished, return_exceptions=True)
            while self._waiting:
                settle(self._waiting.popleft(), _CLOSED)
            await self._authorization.close()
            for http in filter(None, (self._http, self._probing)):
                await http.close()

    # ---- one attempt after the other ---------------------------------------------------------------------------------

    def _call_workers(self) -> None:
        """See to it that there are workers for all that waits, as far as there may be."""
        # One that is done stands among them until its callback is called, and takes nothing more.
        at_work = sum(not worker.done() for worker in self._workers)
        for _ in range(min(len(self._waiting), self.settings.max_connections - at_work)):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while self._waiting:
            await self._deliver(self._waiting.popleft())

    async def _deliver(self, postings: Sequence[_Posting]) -> None:
        """Settle what becomes of a group; a batch that is refused is split until it is known which event is meant."""
        try:
            verdict = await self._attempt(postings)
        except asyncio.CancelledError:
            settle(postings, _CLOSED)
            raise
        if isinstance(verdict, Refused) and len(postings) > 1:
            middle = len(postings) // 2
            self._waiting.extendleft((postings[middle:], postings[:middle]))
            self._call_workers()
        else:
            settle(postings, verdict)

    async def _attempt(self, postings: Sequence[_Posting]) -> Settled | Exception:
        try:
            return await self._post(postings)
        except TimeoutError:
            return _TOO_LATE
        except TryAgainError as problem:
            return Again(str(problem))
        except Exception as problem:  # noqa: BLE001 - SinkDownError, and what should never be: `send` raises it
            return problem

    async def _post(self, postings: Sequence[_Posting]) -> Settled:
        """Post a group, once more when it is rejected for a token that can be renewed. Raises as `_begin` and `exchange`."""
        identity = await self._begin(postings)
        request = written(self.settings.mode, [posting.event for posting in postings])
        answer = await self._exchange(postings, request, identity)
        if answer.status == HTTPStatus.UNAUTHORIZED and self._authorization.renew(identity.get("Authorization")):
            identity = await self._begin(postings)
            answer = await self._exchange(postings, request, identity)
        return outcome_of(answer, where=self._where, now=self._wall_clock(), hidden=self._hidden(identity))

    async def _begin(self, postings: Sequence[_Posting]) -> Mapping[str, str]:
        """Who we are to the receiver. Raises SinkDownError, and TimeoutError when a request must not begin any more."""
        sending = postings[0].sending
        identity = await self._identity(until=sending.deadline)
        if sending.trouble:
            raise sending.trouble
        if self._closing or not postings[0].is_wanted or asyncio.get_running_loop().time() >= sending.deadline:
            raise TimeoutError
        return identity

    async def _exchange(self, postings: Sequence[_Posting], request: Written, identity: Mapping[str, str]) -> Answer:
        assert self._http, "a sink is opened first"
        signature = self._signer.headers(request.id, request.body, self._wall_clock()) if self._signer else {}
        headers = {**identity, **request.headers, **signature}
        for posting in postings:
            posting.on_its_way = True
        try:
            return await self._http.exchange(
                "POST", self._url, headers=headers, timeout_seconds=self.settings.timeout_seconds, body=request.body
            )
        finally:
            for posting in postings:
                posting.on_its_way = False

    async def _identity(self, *, until: float | None = None) -> Mapping[str, str]:
        """The headers that say who we are. Raises SinkDownError, and TimeoutError; see `Authorization.header`."""
        value = await self._authorization.header(until=until)
        return {**self._static, "Authorization": value} if value else self._static

    def _hidden(self, identity: Mapping[str, str]) -> list[str]:
        """What the receiver was told that must not be shown when it repeats it."""
        credentials = identity.get("Authorization", "").partition(" ")[2]
        return [credentials, *self._always_hidden]
