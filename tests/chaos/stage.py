"""The stage: emulator, receiver, Kafka, Redis, the wires between them, and the bridges; and what can befall each."""

import asyncio
import contextlib
import dataclasses
import functools
import math
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
from aiohttp import web

from acceptance.processes import TOPIC, environment, until
from bridge.cli import WRONG_SETTINGS
from bridge.emulator.server import Emulator
from bridge.rocketmq.message import SHARDING_KEY
from chaos.journal import Happened, Journal, Place
from chaos.kafka_topics import copy_of, listening_behind
from chaos.misfortunes import CUT, KILL, STOP, TERM, Misfortune
from chaos.replicas import Replica
from chaos.wires import Mood, Wire
from chaos.witness import witness
from kafka.broker import Broker
from ledger.server import RedisServer
from server_process import ServerProcess
from webhook.receiver import Answer, Received, Receiver, answers, receiving

PARTITIONS = 6
DAWDLE_SECONDS = 0.02
ANSWER_SECONDS = 1.0
"""How long a bridge may take to say how it is."""
REFUSAL_SECONDS = 10.0
"""How long a bridge may take to find out that its key isn't taken."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a round is about."""

    ordered: bool = False
    wires: bool = True
    """Whether connections go over wires; else they are straight, and nothing befalls them."""
    webhook: bool = True
    """Whether there is a receiver beside Kafka."""
    replicas: int = 2
    lease_seconds: float = 6.0
    grace_seconds: float = 10.0


class Stage:
    """Everything that takes part; `staged` sets it up. `say` is told each misfortune, in a line with its time."""

    def __init__(self, terms: Terms, broker: Broker, redis: RedisServer | None, say: Callable[[str], None]) -> None:
        self.terms = terms
        self.journal = Journal(sinks={"webhook": []} if terms.webhook else {})
        self.emulator = Emulator(invisible_seconds=terms.lease_seconds, ordered_invisible_seconds=terms.lease_seconds)
        self.receiver = Receiver()
        self.broker = broker
        self.kafka_topic = f"chaos-{uuid4().hex}"
        self.replicas: list[Replica] = []
        self.wires: dict[str, Wire] = {}
        self.servers: dict[str, ServerProcess] = {"kafka": broker, **({"redis": redis} if redis else {})}
        self._say = say
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        witness(self.emulator, self.journal)

    def say(self, text: str) -> None:
        """Log a line, with its time."""
        self._say(f"{time.time() - self.journal.began:6.1f} s  {text}")

    @property
    def victims(self) -> list[str]:
        """Whatever a misfortune can befall."""
        named = [replica.name for replica in self.replicas] + [*self.servers, *self.wires, "emulator"]
        return [*named, "receiver"] if self.terms.webhook else named

    # ---- what goes through it ----------------------------------------------------------------------------------------

    def publish(self, *places: Place) -> None:
        """Publish messages all at once, as a producer on another protocol would, before a poll takes the first of them."""
        for place in places:
            published = self.emulator.broker.publish(
                self.emulator.now(), TOPIC, f'{{"number": {place.number}}}', properties={SHARDING_KEY: place.shard}
            )
            self.journal.published[published.message_id] = place
        self.emulator.time_moved()  # which serves the polls that wait

    async def answer(self, received: Received) -> web.Response:
        """Answer a webhook, each after another while, so that what should not be on its way together overtakes."""
        await asyncio.sleep(random.uniform(0.0, DAWDLE_SECONDS))
        return self.take(received)

    def take(self, received: Received) -> web.Response:
        """Take an event, which is durable from now on."""
        self.receiver.requests.clear()
        self.journal.sinks["webhook"].append(copy_of(received.body, time.time()))
        return web.Response(status=204)

    # ---- what befalls it ---------------------------------------------------------------------------------------------

    async def suffer(self, misfortune: Misfortune) -> None:
        """Let a misfortune come to pass, when the one before it of the same victim is over; and mend it."""
        victim, kind = misfortune.victim, misfortune.kind
        replica = next((replica for replica in self.replicas if replica.name == victim), None)
        async with replica.lock if replica else self._locks[victim]:
            if replica and misfortune.after_work_seconds is not None:
                await until(replica.has_worked)
                await asyncio.sleep(misfortune.after_work_seconds)
            self.say(str(misfortune))
            happened = Happened(
                victim=victim, kind=kind, process=replica.process if replica else "", began=time.time(), ended=math.inf
            )
            place = len(self.journal.happened)
            self.journal.happened.append(happened)
            if replica:
                await self._replica_suffers(replica, misfortune)
            elif victim in self.servers:
                await self._server_suffers(self.servers[victim], misfortune)
            elif victim in self.wires:
                await self._wire_suffers(self.wires[victim], misfortune)
            elif victim == "receiver":
                await self._receiver_suffers(misfortune)
            else:
                await self._emulator_suffers(misfortune)
            self.journal.happened[place] = dataclasses.replace(happened, ended=time.time())

    async def _replica_suffers(self, replica: Replica, misfortune: Misfortune) -> None:
        if misfortune.kind == STOP:
            replica.send_signal(signal.SIGSTOP)
            await asyncio.sleep(misfortune.seconds)
            replica.send_signal(signal.SIGCONT)
            return
        if misfortune.kind == TERM:
            await self.end(replica)
        else:
            await replica.kill()
        await asyncio.sleep(misfortune.seconds)
        await replica.start()

    async def end(self, replica: Replica) -> None:
        """Tell its process to end, and note how it does."""
        end = await replica.terminate()
        if end.code != WRONG_SETTINGS or not self.refused_keys():
            self.journal.exits.append(end)
        self.say(f"{end.process} ended, code {end.code}, after {end.seconds:.1f} s")

    async def _server_suffers(self, server: ServerProcess, misfortune: Misfortune) -> None:
        kills = misfortune.kind == KILL
        await asyncio.to_thread(server.kill if kills else server.freeze)
        try:
            await asyncio.sleep(misfortune.seconds)
        finally:
            await asyncio.to_thread(server.start if kills else server.thaw)

    async def _wire_suffers(self, wire: Wire, misfortune: Misfortune) -> None:
        if misfortune.kind == CUT:
            wire.cut()
            return
        wire.behave(Mood(misfortune.kind))
        await asyncio.sleep(misfortune.seconds)
        wire.behave(Mood.FLOWS)

    async def _receiver_suffers(self, misfortune: Misfortune) -> None:
        self.receiver.answer = self._answers()[misfortune.kind]
        await asyncio.sleep(misfortune.seconds)
        self.receiver.answer = self.answer
        if misfortune.kind == "answers late":
            await asyncio.sleep(self._late_seconds)  # until it has taken what it still holds

    @property
    def _late_seconds(self) -> float:
        return self.terms.lease_seconds / 2

    def _answers(self) -> Mapping[str, Answer]:
        async def late(received: Received) -> web.Response:
            await asyncio.sleep(self._late_seconds)
            return self.take(received)

        def lost(received: Received) -> web.Response:
            self.take(received)
            return web.Response(status=500)

        return {
            "answers 503": answers(503),
            "answers 401": answers(401),
            "answers late": late,
            "takes it, and answers 500": lost,
        }

    async def _emulator_suffers(self, misfortune: Misfortune) -> None:
        faults, name = self.emulator.faults, misfortune.kind
        well = getattr(faults, name)
        lease = self.terms.lease_seconds if name.endswith("_seconds") else 1.0
        setattr(faults, name, True if isinstance(well, bool) else misfortune.share * lease)
        self.emulator.time_moved()
        await asyncio.sleep(misfortune.seconds)
        setattr(faults, name, well)
        self.emulator.time_moved()

    def refused_keys(self) -> bool:
        """Whether the emulator has lately let nobody in, so that a bridge that began then took its settings for wrong."""
        return any(
            happened.kind == "key_withdrawn" and happened.ended > time.time() - REFUSAL_SECONDS
            for happened in self.journal.happened
        )


@contextlib.asynccontextmanager
async def staged(terms: Terms, broker: Broker, redis: RedisServer | None, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Set it up, with every bridge started; everything but Kafka and Redis is gone afterwards."""
    stage = Stage(terms, broker, redis, say)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(stage.emulator)
        stage.receiver = await stack.enter_async_context(receiving())
        stage.receiver.answer = stage.answer
        await asyncio.to_thread(
            broker.create_topic, stage.kafka_topic, partitions=PARTITIONS, message_timestamp_type="LogAppendTime"
        )
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)))
        addresses = await _addresses(stage, stack, redis)
        for number in range(1, terms.replicas + 1):
            name = f"replica {number}"
            replica = Replica(
                name,
                functools.partial(_environment, terms, stage.kafka_topic, addresses, number),
                stage.journal,
                session,
                grace_seconds=terms.grace_seconds,
                may_refuse=stage.refused_keys,
            )
            stack.push_async_callback(replica.close)
            stage.replicas.append(replica)
        await asyncio.gather(*(replica.start() for replica in stage.replicas))
        stage.journal.began = time.time()
        yield stage


async def _addresses(stage: Stage, stack: contextlib.AsyncExitStack, redis: RedisServer | None) -> Mapping[str, str]:
    """Where the bridges find what; each has a wire of its own to the emulator."""
    ports = {f"emulator {number}": _port(stage.emulator.url) for number in range(1, stage.terms.replicas + 1)}
    if stage.terms.webhook:
        ports["webhook"] = _port(stage.receiver.url)
    if redis:
        ports["redis"] = redis.port
    if not stage.terms.wires:
        return {**{name: f"127.0.0.1:{port}" for name, port in ports.items()}, "kafka": stage.broker.address()}
    wires = {name: await stack.enter_async_context(Wire()) for name in (*ports, "kafka")}
    behind_wire = listening_behind(stage.broker, wires["kafka"].port)
    ports["kafka"] = await asyncio.to_thread(stack.enter_context, behind_wire)
    for name, wire in wires.items():
        wire.target = ports[name]
        stage.wires[f"wire {name}"] = wire
    return {name: f"127.0.0.1:{wire.port}" for name, wire in wires.items()}


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


def _environment(terms: Terms, topic: str, addresses: Mapping[str, str], number: int, process: str) -> Mapping[str, str]:
    """The settings of one process. Its events name it as their source, so that a copy says who wrote it."""
    more = {"WEBHOOK__URL": f"http://{addresses['webhook']}/hook"} if terms.webhook else {}
    if "redis" in addresses:
        more["LEDGER__REDIS_URL"] = f"redis://{addresses['redis']}/0"
    return environment(
        f"http://{addresses[f'emulator {number}']}",
        SINK="kafka,webhook" if terms.webhook else "kafka",
        KAFKA__BOOTSTRAP_SERVERS=addresses["kafka"],
        KAFKA__TOPIC=topic,
        EVENT__SOURCE=f"/{process}",
        ROCKETMQ__ORDERED=str(terms.ordered),
        ROCKETMQ__WAIT_SECONDS="2",
        SHUTDOWN__GRACE_SECONDS=str(terms.grace_seconds),
        **more,
    )
