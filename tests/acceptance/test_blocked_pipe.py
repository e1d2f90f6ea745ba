"""A reader that doesn't read slows the bridge down, and freezes neither its event loop nor its exit."""

import asyncio
import os
from pathlib import Path

import pytest

from acceptance.processes import GROUP, TOPIC, bridge, environment, get, until
from bridge.emulator.server import Emulator


def resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc: run this on Linux")
async def test_while_nobody_reads_health_answers_and_memory_is_flat_and_afterwards_everything_comes_out() -> None:
    reader, writer = os.pipe()
    async with Emulator() as emulator:
        ids = {emulator.publish(TOPIC, f"{number} {'x' * 1000}").message_id for number in range(5000)}
        with os.fdopen(writer, "wb") as stdout:
            running_bridge = bridge("run", env=environment(emulator.url, ROCKETMQ__WAIT_SECONDS="2"), stdout=stdout)
            running = await running_bridge.__aenter__()
        port = await running.port()
        await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).leased > 0)
        await asyncio.sleep(0.5)  # long enough for everything that can be held to be held
        before = resident_bytes(running.process.pid)
        for _ in range(30):
            async with asyncio.timeout(1):
                assert (await get(f"http://127.0.0.1:{port}/livez"))[0] == 200
            await asyncio.sleep(0.1)
        assert resident_bytes(running.process.pid) - before < 8 << 20
        assert emulator.broker.book(emulator.now(), TOPIC, GROUP).leased <= 8 * 16

        def read_all() -> bytes:
            with os.fdopen(reader, "rb") as pipe:
                return pipe.read()

        reading = asyncio.create_task(asyncio.to_thread(read_all))
        await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 5000)
        running.process.terminate()
        assert await running.end(seconds=40) == 0
        lines = (await reading).splitlines()
        await running_bridge.__aexit__(None, None, None)
        assert len(lines) == 5000
        assert len(ids) == 5000


async def test_sigterm_while_nobody_reads_ends_within_the_grace() -> None:
    reader, writer = os.pipe()
    async with Emulator() as emulator:
        for number in range(500):
            emulator.publish(TOPIC, f"{number} {'x' * 1000}")
        with os.fdopen(writer, "wb") as stdout:
            async with bridge("run", env=environment(emulator.url, SHUTDOWN__GRACE_SECONDS="4"), stdout=stdout) as running:
                await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).leased > 0)
                await asyncio.sleep(0.5)
                running.process.terminate()
                assert await running.end(seconds=5) == 0
                said = await running.event("stopped")
                assert said["messages_left"] > 0
    os.close(reader)


async def test_a_closed_pipe_ends_the_bridge_with_one_clear_line_and_leaves_the_rest_to_the_broker() -> None:
    reader, writer = os.pipe()
    async with Emulator() as emulator:
        for number in range(500):
            emulator.publish(TOPIC, f"{number} {'x' * 1000}")
        with os.fdopen(writer, "wb") as stdout:
            async with bridge("run", env=environment(emulator.url), stdout=stdout) as running:
                await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).leased > 0)
                os.close(reader)
                assert await running.end(seconds=10) == 1
                assert [line for line in running.errors if "closed by its reader" in line]
                assert "Traceback" not in "".join(running.errors)
        assert emulator.broker.book(emulator.now(), TOPIC, GROUP).acked < 500
