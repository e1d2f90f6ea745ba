"""The composition root: who is wired to whom."""

import asyncio
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import structlog
from yarl import URL

from bridge import __version__
from bridge.delivery.dead_letter import DeadLetters
from bridge.delivery.engine import Engine, Rules
from bridge.delivery.lease import BrokerClock
from bridge.delivery.shared_ledger import Store
from bridge.environment import proxy_for
from bridge.errors import FixSettingsError, MissingExtraError
from bridge.event import ENVELOPES, Origin
from bridge.rocketmq.billing import units
from bridge.rocketmq.client import Client, Patience
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.credentials import Credentials, CredentialsNow
from bridge.rocketmq.credentials.chain import Chain
from bridge.rocketmq.credentials.files import KeyFiles
from bridge.rocketmq.credentials.in_force import CredentialsInForce
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.management import ManagementApi, endpoint_for
from bridge.rocketmq.message import Message
from bridge.rocketmq.source import RocketMQSource
from bridge.settings import Endpoint, RunSettings
from bridge.sinks import Sink, find
from bridge.source import Source
from bridge.variables import shown
from bridge.watch.event_loop import beating
from bridge.watch.face import Face
from bridge.watch.facts import Facts, instant
from bridge.watch.management import ManagementWatch
from bridge.watch.page import Page

if TYPE_CHECKING:
    from bridge.watch.tracing import Tracing

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

EXPORTING_SECONDS = 1.0
"""How much of the grace is kept for exporting the last spans; a tenth of the grace where that is less."""


class Service:
    """One bridge, from its first poll to its last ack. Made inside the event loop that runs it.

    `sinks` stand in for those that the settings choose, under the same names.
    """

    def __init__(self, settings: RunSettings, *, sinks: Mapping[str, Sink] | None = None) -> None:
        self._settings = settings
        letters = settings.dead_letter.sink
        self.facts = Facts(
            settings.sinks, dead_letters=letters is not None, shared_ledger=settings.ledger.redis_url is not None
        )
        self.port: int | None = None
        """Where health is served, once it is."""
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Where a browser on this machine finds the page; there once it does."""
        clock = BrokerClock()
        rocketmq = settings.rocketmq
        self.credentials = credentials_for(rocketmq)
        self.facts.credentials_expire_at = lambda: self.credentials.expires_at
        if self.credentials.can_change:
            self.facts.credentials = self.credentials.component = self.facts.component("credentials")
        # one more connection than pollers, for the acks of what is seen through beside the flow
        self._client = make_client(
            rocketmq,
            self.credentials,
            max_connections=rocketmq.max_pollers + 1,
            on_date=clock.observe,
            on_messages=self._count_units,
        )
        source: Source = RocketMQSource(
            self._client,
            subscription(settings),
            conversion(settings, on_mismatch=self.facts.body_differs),
            clock=clock,
            monotonic=asyncio.get_running_loop().time,
            wall_clock=time.time,
        )
        tracing = tracing_of(settings, self.facts)
        exporting_seconds = min(EXPORTING_SECONDS, settings.shutdown.grace_seconds / 10) if tracing else 0.0
        rules = Rules(
            ordered=rocketmq.ordered,
            batch_size=rocketmq.batch_size,
            wait_seconds=rocketmq.wait_seconds,
            max_pollers=rocketmq.max_pollers,
            max_bytes=settings.delivery.max_bytes,
            lease_margin_seconds=settings.delivery.lease_margin_seconds,
            max_deliveries=settings.delivery.max_deliveries,
            grace_seconds=settings.shutdown.grace_seconds - exporting_seconds,
        )
        if sinks is None:
            sinks = {name: find(name)(settings.of_sink(name)) for name in settings.sinks}
        if rocketmq.ordered:
            for sink in sinks.values():
                sink.keep_order()
        self._exporting: AbstractAsyncContextManager[None] = nullcontext()
        if tracing:
            self._exporting = tracing.exporting(close_seconds=exporting_seconds)
            source = tracing.source(source)
            sinks = {name: tracing.sink(name, sink) for name, sink in sinks.items()}
        dead_letters = None
        if letters is not None and self.facts.dead_letter is not None:
            letters_sink = find(letters)(settings.of_dead_letters)
            if tracing:
                letters_sink = tracing.sink(letters, letters_sink, operation="dead-letter")
            dead_letters = DeadLetters(letters, letters_sink, self.facts.dead_letter)
        engine = Engine(
            source,
            sinks,
            self.facts,
            rules,
            dead_letters=dead_letters,
            ledger_store=ledger_store(settings),
            rng=random.Random(),  # noqa: S311 - for jitter
        )
        self._watching: AbstractAsyncContextManager[None] = nullcontext()
        if settings.management.enabled:
            self.facts.offline_fails_health = settings.management.required
            watch = ManagementWatch(
                management_api(settings, self.credentials),
                self.facts,
                interval_seconds=settings.management.interval_seconds,
                rng=random.Random(),  # noqa: S311 - for jitter
            )
            self._watching = watch.watching()
        self._engine = engine

    def drain(self) -> None:
        """See `Engine.drain`."""
        self.credentials.wait_no_longer()
        self._engine.drain()

    def interrupt(self) -> None:
        """See `Engine.interrupt`."""
        self.credentials.wait_no_longer()
        self._engine.interrupt()

    async def run(self) -> None:
        """Take messages from the broker to the sink until told to drain.

        Raises FixSettingsError when only a person can mend what is wrong, and SinkGoneError when the sink has ended for good.
        """
        http, rocketmq = self._settings.http, self._settings.rocketmq
        labels = {"topic": rocketmq.topic, "group": rocketmq.group_id}
        page = Page(self.facts, topic=rocketmq.topic, group=rocketmq.group_id, settings=list(shown(self._settings))).routes
        async with beating(self.facts), Face(self.facts, host=http.host, port=http.port, labels=labels, page=page) as face:
            self.port = face.port
            host = "localhost" if http.host in ("0.0.0.0", "::") else http.host  # noqa: S104 - nothing is bound here
            self.url.set_result(str(URL.build(scheme="http", host=host, port=face.port, path="/")))
            self._say_what_starts()
            async with self.credentials, self._client, self._watching, self._exporting:
                await self._engine.run()
            self._say_what_is_left()

    def _count_units(self, messages: Sequence[Message | Damaged]) -> None:
        ordered = self._settings.rocketmq.ordered
        self.facts.counts.delivered_units += sum([units(message, ordered=ordered) for message in messages])

    def _say_what_starts(self) -> None:
        rocketmq = self._settings.rocketmq
        log.info(
            "started",
            version=__version__,
            endpoint=rocketmq.endpoint,
            instance=rocketmq.instance_id,
            topic=rocketmq.topic,
            group=rocketmq.group_id,
            tag=rocketmq.tag,
            ordered=rocketmq.ordered,
            sink=self._settings.sink,
            health_port=self.port,
        )
        grace, wait_seconds = self._settings.shutdown.grace_seconds, rocketmq.wait_seconds
        if grace <= wait_seconds:
            log.warning(
                "the grace is no longer than a poll, so SIGTERM will cut it; what it may have taken then comes again late",
                grace_seconds=grace,
                wait_seconds=wait_seconds,
            )

    def _say_what_is_left(self) -> None:
        facts = self.facts
        left = facts.counts.left["shutdown"] + facts.counts.not_acked["shutdown"]
        if not left and not facts.polls_cut:
            log.info("drained", acked=facts.counts.acked)
            return
        until = facts.left_until
        if facts.polls_cut:  # what a cut poll may have taken is ours, unseen, for one lease from now
            until = max(until or 0.0, time.time() + (facts.lease_seconds or 0.0))
        log.warning(
            "stopped; what is left to the broker comes again when its lease ends",
            acked=facts.counts.acked,
            messages_left=left,
            polls_cut=facts.polls_cut,
            comes_again_by=instant(until) if facts.lease_seconds else "the end of the lease (by default 5 minutes from now)",
        )


def ledger_store(settings: RunSettings) -> Store | None:
    """The store that the ledger is shared through, if the settings name one. Raises FixSettingsError when it can't be used."""
    url, rocketmq = settings.ledger.redis_url, settings.rocketmq
    if url is None:
        return None
    try:
        from bridge.delivery.redis_store import RedisStore  # noqa: PLC0415 - Redis's client is an extra
    except ImportError:
        raise MissingExtraError('BRIDGE_LEDGER__REDIS_URL needs its extra: pip install "rocketmq-bridge[redis]"') from None
    return RedisStore(url.get_secret_value(), instance=rocketmq.instance_id, topic=rocketmq.topic, group=rocketmq.group_id)


def tracing_of(settings: RunSettings, facts: Facts) -> "Tracing | None":
    """The tracing that the settings ask for, if they do. Raises FixSettingsError when OpenTelemetry isn't installed."""
    if not settings.tracing.enabled:
        return None
    try:
        from bridge.watch.tracing import Tracing  # noqa: PLC0415 - OpenTelemetry is an extra
    except ImportError:
        raise MissingExtraError('BRIDGE_TRACING__ENABLED needs its extra: pip install "rocketmq-bridge[otel]"') from None
    return Tracing(facts)


def credentials_for(endpoint: Endpoint) -> CredentialsInForce:
    """The credentials as the settings have it: fixed, from files that may be rotated, or from the default credentials chain."""
    key_id, secret, token = endpoint.access_key_id, endpoint.access_key_secret, endpoint.security_token
    if key_id is None or secret is None:
        return CredentialsInForce(None, Chain())
    given = Credentials(
        access_key_id=key_id,
        access_key_secret=secret.get_secret_value(),
        security_token=token.get_secret_value() if token else None,
    )
    paths = {field: path for field, path in endpoint.key_files.items() if getattr(given, field)}
    return CredentialsInForce(given, KeyFiles(paths, given) if paths else None)


@asynccontextmanager
async def client_for(endpoint: Endpoint, *, max_connections: int) -> AsyncIterator[Client]:
    """A client as the settings have it, with its credentials kept good."""
    async with (
        credentials_for(endpoint) as credentials,
        make_client(endpoint, credentials, max_connections=max_connections) as client,
    ):
        yield client


def make_client(
    endpoint: Endpoint,
    credentials: CredentialsInForce,
    *,
    max_connections: int,
    on_date: Callable[[float, float, float], None] | None = None,
    on_messages: Callable[[Sequence[Message | Damaged]], None] | None = None,
    patience: Patience | None = None,
) -> Client:
    """A client as the settings have it, not open yet. Raises FixSettingsError for a CA file or a proxy that can't be used."""
    return Client(
        endpoint.endpoint,
        credentials,
        max_connections=max_connections,
        proxy=proxy_for(endpoint.endpoint),
        ssl=_trust(endpoint),
        renew=credentials.renew,
        on_date=on_date,
        on_messages=on_messages,
        patience=patience or Patience(),
    )


def _trust(endpoint: Endpoint) -> ssl.SSLContext | bool:
    if endpoint.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=endpoint.ca_file)
    except (OSError, ssl.SSLError) as problem:
        raise FixSettingsError(f"BRIDGE_ROCKETMQ__CA_FILE: {str(endpoint.ca_file)!r} holds no CA in PEM: {problem}") from None


def subscription(settings: RunSettings) -> Subscription:
    """What the settings have the bridge consume."""
    rocketmq = settings.rocketmq
    return Subscription(
        topic=rocketmq.topic,
        group=rocketmq.group_id,
        instance=rocketmq.instance_id,
        tag=rocketmq.tag,
        ordered=rocketmq.ordered,
    )


def management_api(settings: RunSettings, credentials: CredentialsNow) -> ManagementApi:
    """The management API as the settings have it. Raises FixSettingsError when they don't say where it is."""
    management, rocketmq = settings.management, settings.rocketmq
    _, region = _account_and_region(rocketmq.endpoint)
    endpoint = endpoint_for(endpoint=management.endpoint, region=management.region or region)
    return ManagementApi(
        endpoint,
        credentials,
        group=rocketmq.group_id,
        instance=rocketmq.instance_id,
        proxy=proxy_for(endpoint),
        ca_file=rocketmq.ca_file,
    )


def _account_and_region(endpoint: str) -> tuple[str | None, str | None]:
    # http://<account>.mqrest.<region>.aliyuncs.com (protocol.md 1.1); any other endpoint doesn't say
    named = re.fullmatch(r"https?://(\w+)\.mqrest\.([\w-]+?)(?:-internal)?\.aliyuncs\.com(?::\d+)?", endpoint)
    return (named[1], named[2]) if named else (None, None)


def conversion(settings: RunSettings, *, on_mismatch: Callable[[str], None] = lambda _: None) -> Conversion:
    """How the settings have messages become events; `on_mismatch` as `Conversion` has it."""
    rocketmq, event = settings.rocketmq, settings.event
    place = f"{rocketmq.instance_id}/{rocketmq.topic}" if rocketmq.instance_id else rocketmq.topic
    account, region = _account_and_region(rocketmq.endpoint)
    origin = Origin(
        topic=rocketmq.topic,
        group=rocketmq.group_id,
        instance=rocketmq.instance_id,
        account=account,
        region=region,
    )
    return Conversion(
        origin=origin,
        source=event.source or f"/rocketmq/{place}",
        type_=event.type,
        envelope=ENVELOPES[event.envelope],
        data=event.data,
        strict_md5=event.strict_md5,
        on_mismatch=on_mismatch,
    )
