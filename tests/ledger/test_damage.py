import itertools
from dataclasses import replace

from bridge.source import Batch
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import world


def test_a_damaged_message_whose_ack_failed_is_acked_when_it_comes_again_and_buried_once() -> None:
    async def main() -> None:
        letters = MemorySink()
        async with world(dead_letters=letters, lease=20) as w:
            receive, ack, acks = w.source.receive, w.source.broker.ack, itertools.count()

            async def damaging(max_messages: int, wait_seconds: int) -> Batch:
                batch = await receive(max_messages, wait_seconds)
                return replace(batch, deliveries=[replace(d, damage="its XML is broken") for d in batch.deliveries])

            w.source.receive = damaging  # type: ignore[method-assign]
            w.source.broker.ack = lambda now, topic, group, handles, **_: ack(  # type: ignore[method-assign]
                now, topic, group if next(acks) else "GID_other", handles
            )
            ids = w.source.publish("bytes")
            await w.until(lambda: w.acked == ids, seconds=60)
            assert len(letters.sent) == 1

    run(main())
