"""A bridge's log of ten healthy minutes, and of ten in which its sink is down, in virtual time: as it stands on stderr."""

import asyncio
import random

import structlog

from bridge.errors import SinkDownError
from bridge.testing import MemorySink
from bridge.watch import logs
from worlds.virtual_time import run
from worlds.world import World, world

MINUTES = 60.0
MESSAGES_A_SECOND = 2.0


async def publish(w: World) -> None:
    rng = random.Random(1)
    while True:
        await asyncio.sleep(rng.expovariate(MESSAGES_A_SECOND))
        w.source.publish("hello")


async def main() -> None:
    mark = structlog.stdlib.get_logger("bridge").info
    async with world(MemorySink()) as w:
        publishing = asyncio.create_task(publish(w))
        await asyncio.sleep(1)
        mark("healthy")
        await asyncio.sleep(10 * MINUTES)
        mark("down")
        w.sink.trouble = SinkDownError("no connection to the sink")
        await asyncio.sleep(10 * MINUTES)
        w.sink.trouble = None
        await w.until(lambda: w.backlog == 0)
        publishing.cancel()
        mark("over", acked=len(w.acked))


if __name__ == "__main__":
    logs.configure(level="info", form="json")
    run(main())
