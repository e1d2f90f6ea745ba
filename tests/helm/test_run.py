"""What the chart renders is run: the container's arguments, environment and files, on this machine and not in a cluster."""

import asyncio
import json
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from bridge.emulator.server import Emulator
from helm.chart import manifests, merged, one
from helm.container import Container, keys_of
from helm.kubelet import Probe
from helm.variants import MINIMAL
from outside.command import PATIENCE_SECONDS, finished, started
from outside.waiting import until_seen
from server_process import free_port

WAIT_SECONDS = 3
"""How long a poll waits: shorter than in a cluster, so that a drain is."""


def _values(emulator: Emulator, **more: Any) -> dict[str, Any]:
    here = {
        "rocketmq": {"endpoint": emulator.url, "waitSeconds": WAIT_SECONDS},
        "http": {"host": "127.0.0.1", "port": free_port()},
        "sink": "stdout",
    }
    return merged(MINIMAL, here, more)


@pytest.mark.parametrize("secret", ["existing", "made"])
async def test_a_pod_starts_delivers_and_ends_as_its_manifest_says(emulator: Emulator, tmp_path: Path, secret: str) -> None:
    made = {"existingSecret": None, "secret": keys_of("AKID", "SECRET")}
    found = manifests(_values(emulator, **(made if secret == "made" else {})))
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    container = Container(pod, found)
    environment = container.environment(tmp_path, {"bridge-keys": keys_of("AKID", "SECRET")})
    startup, liveness, readiness = (
        Probe(container.spec[f"{name}Probe"], container.ports) for name in ("startup", "liveness", "readiness")
    )
    async with started(*container.args, folder=tmp_path, settings=environment) as process:
        await _expect(startup, process)
        await _expect(readiness, process)
        emulator.publish("orders", "hello")
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = json.loads(await process.stdout.readline())
            await emulator.until(lambda: emulator.broker.book(emulator.now(), "orders", "GID_bridge").acked == 1)
        assert event["data"] == "hello"
        async with asyncio.timeout(PATIENCE_SECONDS):
            await emulator.until(lambda: emulator.open_polls() == 1)

        terminated_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await until_seen(lambda: _fails(readiness))
        assert await liveness.passes()
        end = await finished(process)
    assert end.code == 0
    assert time.monotonic() - terminated_at < WAIT_SECONDS + 5 < pod["terminationGracePeriodSeconds"]
    assert "drained" in end.err


async def _expect(probe: Probe, process: Process) -> None:
    """Wait until it passes; when it doesn't, or the process has ended, fail with what that said."""
    holding, ended = asyncio.create_task(probe.holds()), asyncio.create_task(process.wait())
    await asyncio.wait([holding, ended], return_when=asyncio.FIRST_COMPLETED)
    if not (holding.done() and holding.result()):
        holding.cancel()
        if not ended.done():
            process.kill()
        pytest.fail((await finished(process)).err)
    ended.cancel()


async def _fails(probe: Probe) -> bool:
    return not await probe.passes()


async def test_the_pod_of_helm_test_finds_nothing_wrong_and_consumes_nothing(emulator: Emulator, tmp_path: Path) -> None:
    emulator.publish("orders", "hello")
    found = manifests(_values(emulator))
    container = Container(one(found, "Pod")["spec"], found)
    environment = container.environment(tmp_path, {"bridge-keys": keys_of("AKID", "SECRET")})
    async with started(*container.args, folder=tmp_path, settings=environment) as process:
        end = await finished(process)
    assert end.code == 0, end.out + end.err
    book = emulator.broker.book(emulator.now(), "orders", "GID_bridge")
    assert (book.acked, emulator.open_polls()) == (0, 0)


async def test_the_pod_of_helm_test_fails_with_a_wrong_key(emulator: Emulator, tmp_path: Path) -> None:
    found = manifests(_values(emulator))
    container = Container(one(found, "Pod")["spec"], found)
    environment = container.environment(tmp_path, {"bridge-keys": keys_of("AKID", "WRONG")})
    async with started(*container.args, folder=tmp_path, settings=environment) as process:
        end = await finished(process)
    assert end.code == 1
