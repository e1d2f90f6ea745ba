"""Where a real `bridge run` has its credentials from, and what becomes of it when they change."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.emulator.server import Emulator
from bridge.errors import FixSettingsError
from bridge.loading import load
from bridge.settings import PublishSettings
from outside.command import GROUP, TOPIC, bridge, finished, said, settings_for, started
from outside.test_health import probing
from outside.waiting import until, until_seen
from rocketmq.servers import Server, answering, http

KEY, SECRET, TOKEN = (f"BRIDGE_ROCKETMQ__{name}" for name in ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN"))


@pytest.fixture
def keyless(emulator: Emulator, tmp_path: Path) -> dict[str, str]:
    """Settings without a key, on a machine where nothing gives one."""
    settings = {name: text for name, text in settings_for(emulator).items() if name not in (KEY, SECRET)}
    return {**settings, "HOME": str(tmp_path), "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({KEY: "id"}, SECRET),
        ({SECRET: "hidden"}, SECRET),
        ({TOKEN: "hidden"}, TOKEN),
        ({KEY: "id", TOKEN: "hidden"}, SECRET),
    ],
)
def test_half_a_key_is_a_mistake(keyless: Mapping[str, str], tmp_path: Path, given: dict[str, str], named: str) -> None:
    environ = {name: text for name, text in keyless.items() if name.startswith("BRIDGE_ROCKETMQ")}
    with pytest.raises(FixSettingsError) as raised:
        load(PublishSettings, environ={**environ, **given}, folder=tmp_path)
    line = str(raised.value).splitlines()[0]
    assert line.startswith(f"{named}: ")
    assert "BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET" in line
    assert "hidden" not in str(raised.value)


async def test_without_a_key_anywhere_it_ends_with_one_line_that_says_what_to_set(
    keyless: Mapping[str, str], tmp_path: Path
) -> None:
    result = await bridge("run", folder=tmp_path, settings=keyless)
    assert (result.code, result.out) == (2, "")
    *_, line = result.err.splitlines()
    assert line.startswith("bridge: BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET are not set, and the Alibaba")
    assert "Traceback" not in result.err


# ---- files -----------------------------------------------------------------------------------------------------------


def mount(folder: Path, number: int, key_id: str, secret: str) -> None:
    """Write a secret as Kubernetes mounts it, or replace it as Kubernetes does: all files at once."""
    version = folder / f"..version-{number}"
    version.mkdir(parents=True)
    for name, text in {KEY: key_id, SECRET: secret}.items():
        (version / name).write_text(f"{text}\n")
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..next").symlink_to(version.name)
    (folder / "..next").rename(folder / "..data")


async def test_a_key_that_is_rotated_in_its_files_is_taken_up_without_a_restart_or_a_failure(
    keyless: Mapping[str, str], emulator: Emulator, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    mount(secrets, 0, "AKID", "SECRET")
    long_polls = {"BRIDGE_ROCKETMQ__WAIT_SECONDS": "30", "BRIDGE_SHUTDOWN__GRACE_SECONDS": "2"}
    settings = {**keyless, **long_polls, "BRIDGE_SECRETS_DIR": str(secrets), "BRIDGE_LOG__FORMAT": "json"}
    logged: list[str] = []
    async with started("run", folder=tmp_path, settings=settings) as process:

        async def deliver(body: str, acked: int) -> None:
            emulator.publish(TOPIC, body)
            await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == acked)

        await deliver("with the first", 1)
        # The old key ends the moment the new one appears: a refused call is made again with the new one.
        mount(secrets, 1, "id-1", "secret-1")
        emulator.access_key.key_id, emulator.access_key.secret = "id-1", "secret-1"
        await deliver("with the second", 2)
        logged.append(await said(process, "new credentials"))
        # Both are taken for a while: the new one is found before the old one ends. A poll spans the change, as the emulator
        # takes only one of them at a time.
        await until(lambda: emulator.open_polls() == 1)
        mount(secrets, 2, "id-2", "secret-2")
        logged.append(await said(process, "new credentials"))
        emulator.access_key.key_id, emulator.access_key.secret = "id-2", "secret-2"
        await deliver("with the third", 3)
        result = await finished(process, stop=True)
    assert result.code == 0
    assert [json.loads(line)["data"] for line in result.out.splitlines()] == [
        "with the first", "with the second", "with the third"
    ]  # fmt: skip
    assert "failing" not in result.err
    assert "secret-" not in "".join([*logged, result.err])


# ---- the chain -------------------------------------------------------------------------------------------------------


def temporary(key_id: str, secret: str) -> bytes:
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    key = {"AccessKeyId": key_id, "AccessKeySecret": secret, "SecurityToken": "hidden-token", "Expiration": expiration}
    return http(200, json.dumps({"Code": "Success", **key}).encode())


@asynccontextmanager
async def giving(*answers: bytes) -> AsyncIterator[tuple[Server, dict[str, str]]]:
    """A server that gives keys, and the settings that lead there."""
    async with answering(*answers) as server:
        yield server, {"ALIBABA_CLOUD_CREDENTIALS_URI": f"{server.url}/key", "BRIDGE_LOG__FORMAT": "json"}


async def test_a_key_from_the_chain_is_waited_for_used_and_replaced_when_it_is_refused(
    keyless: Mapping[str, str], emulator: Emulator, tmp_path: Path
) -> None:
    async with giving(http(503), temporary("AKID", "SECRET"), temporary("id-1", "secret-1")) as (server, chain):
        async with started("run", folder=tmp_path, settings={**keyless, **chain}) as process:
            port = json.loads(await said(process, "started"))["health_port"]
            line = json.loads(await said(process, "failing"))
            assert (line["component"], "503" in line["error"]) == ("credentials", True)
            async with probing(port) as probe:
                await until_seen(probe.ready)
                report = (await probe.health())[1]
                assert report["components"]["credentials"]["status"] == "ok"
            emulator.access_key.key_id, emulator.access_key.secret = "id-1", "secret-1"
            emulator.publish(TOPIC, "hello")
            await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 1)
            result = await finished(process, stop=True)
        assert result.code == 0
        assert len(server.requests) == 3
    assert "hidden-token" not in result.err


async def test_publish_uses_the_chain_too_and_prints_nothing_but_ids(
    keyless: Mapping[str, str], emulator: Emulator, tmp_path: Path
) -> None:
    async with giving(temporary("AKID", "SECRET")) as (_, chain):
        result = await bridge("publish", "hello", folder=tmp_path, settings={**keyless, **chain})
    assert result.code == 0
    assert result.out.split() == emulator.broker.published_ids(emulator.now(), TOPIC)
    assert result.err == ""
