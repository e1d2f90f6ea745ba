"""`bridge demo`: the whole way on one machine, over the real protocol: publisher, broker, bridge, sink."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import orjson

from bridge.emulator.server import Emulator
from bridge.errors import FixSettingsError, TryAgainError
from bridge.loading import DEMO_DEFAULTS, load
from bridge.rocketmq.client import Client
from bridge.service import Service, client_for
from bridge.settings import EmulatorFace, EmulatorSettings, RunSettings
from bridge.watch import logs

TOPIC, GROUP = "demo", "GID_demo"
PAUSE_SECONDS = 0.5
"""Between two messages, when they are published until Ctrl-C."""


@asynccontextmanager
async def emulator_for(settings: EmulatorFace) -> AsyncIterator[Emulator]:
    """The local ApsaraMQ as the settings have it. Raises FixSettingsError when it can't listen where it should."""
    emulator = Emulator(
        host=settings.host,
        port=settings.port,
        access_key_id=settings.access_key_id,
        access_key_secret=settings.access_key_secret.get_secret_value(),
        topics=[topic.strip() for topic in settings.topics.split(",")] if settings.topics else None,
        invisible_seconds=settings.invisible_seconds,
        ordered_invisible_seconds=settings.ordered_invisible_seconds,
        faults=settings.faults,
    )
    try:
        await emulator.start()
    except (OSError, UnicodeError) as problem:
        raise FixSettingsError(
            f"BRIDGE_EMULATOR__HOST and __PORT: listening on {settings.host} port {settings.port}: "
            f"{getattr(problem, 'strerror', None) or problem}; name another, or port 0 for any"
        ) from problem
    try:
        yield emulator
    finally:
        await emulator.close()


async def demo(flags: Sequence[str], *, messages: int | None) -> None:
    """Publish and deliver so many messages, or go on until SIGINT or SIGTERM. Only events go to stdout."""
    face = load(EmulatorSettings, flags, defaults=DEMO_DEFAULTS).settings.emulator
    async with emulator_for(face) as emulator:
        settings = _settings(flags, face, emulator.url)
        logs.configure(level=settings.log.level, form=settings.log.format)
        service = Service(settings)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, service.interrupt)
        async with client_for(settings.rocketmq, max_connections=1) as client:
            feeding = asyncio.create_task(_feed(client, emulator, service, messages))
            try:
                await service.run()
            finally:
                feeding.cancel()
                await asyncio.wait([feeding])
        if not feeding.cancelled():
            feeding.result()


def _settings(flags: Sequence[str], face: EmulatorFace, url: str) -> RunSettings:
    """What is set, but for the broker: that is the emulator, whatever other instance the settings of this folder name."""
    here = [
        f"--rocketmq.endpoint={url}",
        f"--rocketmq.topic={TOPIC}",
        f"--rocketmq.group-id={GROUP}",
        f"--rocketmq.access-key-id={face.access_key_id}",
        f"--rocketmq.access-key-secret={face.access_key_secret.get_secret_value()}",
        f"--management.endpoint={url}",
    ]
    settings = load(RunSettings, [*flags, *here], defaults=DEMO_DEFAULTS).settings
    elsewhere = dict.fromkeys(("instance_id", "tag", "security_token", "ca_file"))
    return settings.model_copy(update={"rocketmq": settings.rocketmq.model_copy(update=elsewhere)})


async def _feed(client: Client, emulator: Emulator, service: Service, messages: int | None) -> None:
    """Publish, and end the service when so many messages have been delivered and acked, or when it can't go on."""
    try:
        page = await service.url
        sys.stderr.write(f"the broker is {emulator.url}, its topic is {TOPIC}; Ctrl-C ends the demo\n")
        sys.stderr.write(f"see how it goes: {page}\n")
        for number in count(1):
            await _publish(client, number)
            if messages is None:
                await asyncio.sleep(PAUSE_SECONDS)
            elif number == messages:
                break
        while emulator.broker.book(emulator.now(), TOPIC, GROUP).acked < (messages or 0):  # noqa: ASYNC110 - the broker is sans-IO
            await asyncio.sleep(0.02)
    finally:
        service.interrupt()


async def _publish(client: Client, number: int) -> None:
    """Publish one message, however often that takes: the faults of the emulator hit publishing, too."""
    while True:
        try:
            await client.publish(TOPIC, **_message(number))
        except TryAgainError:
            await asyncio.sleep(PAUSE_SECONDS / 10)
        else:
            return


def _message(number: int) -> dict[str, Any]:
    """One of a few kinds of message in turn: JSON, text, and what makes other bridges stumble."""
    order = {"order": number, "item": "茶 🍵", "price": "3.50", "paid": number % 2 == 0}
    kinds = (
        {"body": orjson.dumps(order).decode(), "tag": "order", "properties": {"KEYS": f"order-{number}"}},
        {"body": f'message {number}: <a> & "b"', "properties": {"colour": "blue"}},
        {"body": f'{{"big": 12345678901234567890.{number:05}, "kept": 1.10}}', "tag": "number"},
    )
    return kinds[number % len(kinds)]
