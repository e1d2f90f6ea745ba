"""The composition root: who is wired to whom, and in which order everything ends."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable

import structlog

from bridge import __version__
from bridge.delivery.lease import BrokerClock
from bridge.delivery.ledger import Ledger
from bridge.delivery.outlet import Outlet
from bridge.delivery.pace import wait
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.pollers import Pollers
from bridge.delivery.room import Room
from bridge.errors import BridgeError, FixSettingsError
from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.source import RocketMQSource
from bridge.settings import Endpoint, RunSettings, proxy_for
from bridge.sinks import Sink, find
from bridge.watch.facts import Facts, Phase, instant
from bridge.watch.health import serve

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

CLOSE_SECONDS = 3.0
"""How much of the grace is kept for closing the sink; a fifth of the grace where that is less."""


class Service:
    """One bridge, from its first poll to its last ack.

    `run` returns when it has drained after `stop`. It raises FixSettingsError when only a person can mend what is wrong, and
    SinkGoneError when the sink has ended for good.
    """

    def __init__(self, settings: RunSettings, *, sink: Sink | None = None) -> None:
        self._settings = settings
        self._sink = sink or find(settings.sink)(settings.of_sink(settings.sink))
        self.facts = Facts(settings.sink)
        self.port: int | None = None
        """Where health is served, once it is."""
        self._drain_asked = asyncio.Event()
        self._cut_asked = asyncio.Event()
        self._end_asked = asyncio.Event()

    def drain(self) -> None:
        """Start no poll any more, finish what is held, and return from `run` (promise 8). Asked again, also cut the polls."""
        if self._drain_asked.is_set():
            self.interrupt()
        self._drain_asked.set()

    def interrupt(self) -> None:
        """The same, but cut the polls that are out. Asked again, leave everything to the broker at once."""
        if self._cut_asked.is_set():
            self._end_asked.set()
        self._cut_asked.set()
        self._drain_asked.set()

    async def run(self) -> None:
        """Take messages from the broker to the sink until told to drain."""
        http = self._settings.http
        health, self.port = await serve(self.facts, host=http.host, port=http.port)
        try:
            await self._work()
        except BaseExceptionGroup as group:
            raise _cause(group) from None
        finally:
            await health.cleanup()

    async def _work(self) -> None:
        settings, facts = self._settings, self.facts
        rng = random.Random()  # noqa: S311 - for jitter
        clock = BrokerClock()
        monotonic = asyncio.get_running_loop().time
        outlet = Outlet(self._sink, facts.sink)
        # one more connection than pollers, for the acks of what is seen through beside the flow
        connections = settings.rocketmq.max_pollers + 1
        async with client_for(settings.rocketmq, max_connections=connections, on_date=clock.observe) as client:
            source = RocketMQSource(
                client, subscription(settings), conversion(settings), clock=clock, monotonic=monotonic, wall_clock=time.time
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    room = Room(settings.delivery.max_bytes)
                    pipeline = Pipeline(
                        source=source,
                        outlet=outlet,
                        ledger=Ledger(),
                        room=room,
                        facts=facts,
                        tasks=tasks,
                        ordered=settings.rocketmq.ordered,
                        margin_seconds=settings.delivery.lease_margin_seconds,
                        rng=rng,
                    )
                    pollers = Pollers(
                        source=source,
                        pipeline=pipeline,
                        outlet=outlet,
                        room=room,
                        facts=facts,
                        tasks=tasks,
                        batch_size=settings.rocketmq.batch_size,
                        wait_seconds=settings.rocketmq.wait_seconds,
                        max_pollers=settings.rocketmq.max_pollers,
                        rng=rng,
                    )
                    polling = tasks.create_task(pollers.run())
                    facts.phase = Phase.RUNNING
                    self._say_what_starts()
                    await self._drain_asked.wait()
                    await self._drain(pollers, pipeline, polling)
            finally:
                await outlet.close(self._closing_seconds)

    @property
    def _closing_seconds(self) -> float:
        return min(CLOSE_SECONDS, self._settings.shutdown.grace_seconds / 5)

    async def _drain(self, pollers: Pollers, pipeline: Pipeline, polling: asyncio.Task[None]) -> None:
        """Promise 8, step by step; each step is bounded by what is left of the grace."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.shutdown.grace_seconds - self._closing_seconds
        cut_before = self.facts.counts.polls["cut"]
        self.facts.phase = Phase.DRAINING
        # 1. No poll begins; those that are out come back, and what they bring is seen to, retries among it.
        pollers.stop()
        await _wait_for(polling, end - loop.time(), self._cut_asked)
        # 2. A poll that is still out is cut; nobody waits for a retry any more.
        pollers.cut()
        pipeline.stop_retrying()
        await _wait_for(polling, end - loop.time(), self._end_asked)
        # 3. Answers of the sink that are still out are waited for, and acked.
        await pipeline.finish(end - loop.time(), self._end_asked)
        # 4. What is still held is left to the broker.
        polling.cancel()
        pollers.abandon()
        await asyncio.sleep(0)
        self._say_what_is_left(polls_cut=self.facts.counts.polls["cut"] - cut_before)

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

    def _say_what_is_left(self, *, polls_cut: int) -> None:
        facts = self.facts
        left = facts.counts.left["shutdown"] + facts.counts.not_acked["shutdown"]
        if not left and not polls_cut:
            log.info("drained", acked=facts.counts.acked)
            return
        until = facts.left_until
        if polls_cut:  # what a cut poll may have taken is ours, unseen, for one lease from now
            until = max(until or 0.0, time.time() + (facts.lease_seconds or 0.0))
        log.warning(
            "stopped; what is left to the broker comes again when its lease ends",
            acked=facts.counts.acked,
            messages_left=left,
            polls_cut=polls_cut,
            comes_again_by=instant(until) if facts.lease_seconds else "the end of the lease (by default 5 minutes from now)",
        )


async def _wait_for(task: asyncio.Task[None], seconds: float, *events: asyncio.Event) -> None:
    """Wait for a task, for one of the events, or for so many seconds, whichever is first."""
    done = asyncio.Event()
    task.add_done_callback(lambda _: done.set())
    await wait(seconds, done, *events)


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that a group of tasks ended with; what people should mend goes first."""
    causes = [_cause(e) if isinstance(e, BaseExceptionGroup) else e for e in group.exceptions]
    return min(
        causes, key=lambda cause: 0 if isinstance(cause, FixSettingsError) else 1 if isinstance(cause, BridgeError) else 2
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
    return Conversion(
        source=event.source or f"/rocketmq/{place}",
        type_=event.type,
        group=rocketmq.group_id,
        data=event.data,
        strict_md5=event.strict_md5,
    )
