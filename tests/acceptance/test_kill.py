"""Promise 1 against kill -9: whatever the moment, nothing is lost, and nothing was acked that hadn't been printed."""

import asyncio
import random
from pathlib import Path

import pytest

from acceptance.processes import GROUP, TOPIC, bridge, environment, events, until
from bridge.emulator.books import GroupBook
from bridge.emulator.server import Emulator

MESSAGES, KILLS, LEASE_SECONDS = 20_000, 5, 3.0


@pytest.mark.timeout(300)  # it starts six processes, and each of its waits has a bound of its own
async def test_kill_9_loses_nothing_and_nothing_unprinted_was_acked(tmp_path: Path) -> None:
    rng = random.Random()
    out = tmp_path / "out"
    async with Emulator(invisible_seconds=LEASE_SECONDS) as emulator:
        published = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(MESSAGES)}

        def book() -> GroupBook:
            return emulator.broker.book(emulator.now(), TOPIC, GROUP)

        with out.open("ab") as stdout:
            for kill in range(KILLS + 1):
                async with bridge("run", env=environment(emulator.url, ROCKETMQ__WAIT_SECONDS="2"), stdout=stdout) as running:
                    await running.event("started")
                    if kill < KILLS:
                        await asyncio.sleep(rng.uniform(0, 0.5))
                        running.process.kill()
                        await running.end()
                        acked = emulator.broker.group_ids(emulator.now(), TOPIC, GROUP).acked
                        assert {event["id"] for event in events(out)}.issuperset(acked)
                    else:
                        await until(lambda: book().acked == MESSAGES, seconds=90)
                        running.process.terminate()
                        assert await running.end(seconds=40) == 0
        assert (book().ready, book().leased, book().acked) == (0, 0, MESSAGES)
    assert {event["id"] for event in events(out)} == published
