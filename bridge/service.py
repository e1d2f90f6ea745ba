"""The composition root: who is wired to whom."""

import asyncio
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping

import structlog

from bridge import __version__
from bridge.delivery.dead_letter import DeadLetters
from bridge.delivery.engine import Engine, Rules
from bridge.delivery.lease import BrokerClock
from bridge.environment import proxy_for
from bridge.errors import FixSettingsError
from bridge.event import ENVELOPES, Origin
from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.source import RocketMQSource
from bridge.settings import Endpoint, RunSettings
from bridge.sinks import Sink, find
from bridge.watch.facts import Facts, instant
from bridge.watch.health import serve

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")


class Service:
    """One bridge, from its first poll to its last ack. Made inside the event loop that runs it.

    `sinks` stand in for those that the settings choose, under the same names.
    """

    def __init__(self, settings: RunSettings, *, sinks: Mapping[str, Sink] | None = None) -> None:
        self._settings = settings
        letters = settings.dead_letter.sink
        self.facts = Facts(settings.sinks, dead_letters=letters is not None)
        self.port: int | None = None
        """Where health is served, once it is."""
        clock = BrokerClock()
        rocketmq = settings.rocketmq
        # one more connection than pollers, for the acks of what is seen through beside the flow
        self._client = client_for(rocketmq, max_connections=rocketmq.max_pollers + 1, on_date=clock.observe)
        source = RocketMQSource(
            self._client,
            subscription(settings),
            conversion(settings),
            clock=clock,
            monotonic=asyncio.get_running_loop().time,
            wall_clock=time.time,
        )
        rules = Rules(
            ordered=rocketmq.ordered,
            batch_size=rocketmq.batch_size,
            wait_seconds=rocketmq.wait_seconds,
            max_pollers=rocketmq.max_pollers,
            max_bytes=settings.delivery.max_bytes,
            lease_margin_seconds=settings.delivery.lease_margin_seconds,
            max_deliveries=settings.delivery.max_deliveries,
            grace_seconds=settings.shutdown.grace_seconds,
        )
        if sinks is None:
            sinks = {name: find(name)(settings.of_sink(name)) for name in settings.sinks}
        if rocketmq.ordered:
            for sink in sinks.values():
                sink.keep_order()
        dead_letters = None
        if letters is not None and self.facts.dead_letter is not None:
            dead_letters = DeadLetters(letters, find(letters)(settings.of_dead_letters), self.facts.dead_letter)
        engine = Engine(source, sinks, self.facts, rules, dead_letters=dead_letters, rng=random.Random())  # noqa: S311 - for jitter
        self._run = engine.run
        self.drain = engine.drain
        self.interrupt = engine.interrupt

    async def run(self) -> None:
        """Take messages from the broker to the sink until told to drain.

        Raises FixSettingsError when only a person can mend what is wrong, and SinkGoneError when the sink has ended for good.
        """
        http = self._settings.http
        health, self.port = await serve(self.facts, host=http.host, port=http.port)
        try:
            self._say_what_starts()
            async with self._client:
                await self._run()
            self._say_what_is_left()
        finally:
            await health.cleanup()

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


def client_for(
    endpoint: Endpoint, *, max_connections: int, on_date: Callable[[float, float, float], None] | None = None
) -> Client:
    """A client as the settings have it."""
    secret, token = endpoint.access_key_secret, endpoint.security_token
    credentials = Credentials(
        access_key_id=endpoint.access_key_id,
        access_key_secret=secret.get_secret_value(),
        security_token=token.get_secret_value() if token else None,
    )
    return Client(
        endpoint.endpoint,
        lambda: credentials,
        max_connections=max_connections,
        proxy=proxy_for(endpoint.endpoint),
        ssl=_trust(endpoint),
        on_date=on_date,
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


def conversion(settings: RunSettings) -> Conversion:
    """How the settings have messages become events."""
    rocketmq, event = settings.rocketmq, settings.event
    place = f"{rocketmq.instance_id}/{rocketmq.topic}" if rocketmq.instance_id else rocketmq.topic
    # http://<account>.mqrest.<region>.aliyuncs.com (protocol.md 1.1); any other endpoint doesn't say
    named = re.fullmatch(r"https?://(\w+)\.mqrest\.([\w-]+?)(?:-internal)?\.aliyuncs\.com(?::\d+)?", rocketmq.endpoint)
    origin = Origin(
        topic=rocketmq.topic,
        group=rocketmq.group_id,
        instance=rocketmq.instance_id,
        account=named[1] if named else None,
        region=named[2] if named else None,
    )
    return Conversion(
        origin=origin,
        source=event.source or f"/rocketmq/{place}",
        type_=event.type,
        envelope=ENVELOPES[event.envelope],
        data=event.data,
        strict_md5=event.strict_md5,
    )
