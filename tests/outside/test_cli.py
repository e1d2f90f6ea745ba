import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bridge import cli
from bridge.emulator.server import Emulator
from bridge.rocketmq.signing import VERSION
from outside.command import PATIENCE_SECONDS, TOPIC, Finished, bridge, environment, finished, said, settings_for, started


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def one_line(result: Finished) -> str:
    """What went wrong, said in one line, with nothing on stdout."""
    (line,) = result.err.splitlines()
    assert line.startswith("bridge: ")
    assert result.out == ""
    return line.removeprefix("bridge: ")


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        ("run", ["BRIDGE_ROCKETMQ__ENDPOINT", "BRIDGE_SINK [stdout]", "BRIDGE_HTTP__PORT [8080]"]),
        ("demo", ["--messages N", "BRIDGE_EVENT__DATA [auto]", "BRIDGE_EMULATOR__FAULTS__CUT_AFTER [0.0]"]),
        ("emulator", ["BRIDGE_EMULATOR__PORT [8088]", "BRIDGE_EMULATOR__FAULTS__KEY_WITHDRAWN [False]"]),
        ("publish", ["--tag TAG", "--property NAME=VALUE", "BRIDGE_ROCKETMQ__TOPIC"]),
        ("config", ["secrets are hidden"]),
    ],
)
def test_each_command_explains_itself(command: str, shows: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main([command, "--help"])
    out, err = capsys.readouterr()
    assert (exited.value.code, err) == (0, "")
    for text in shows:
        assert text in out
    assert "SECRET]" not in out


async def test_help_can_be_read_in_a_locale_that_knows_ascii_alone(tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = await bridge("run", "--help", folder=tmp_path, settings=ascii_only)
    assert (result.code, result.err) == (0, "")
    assert result.out.isascii()
    assert "BRIDGE_ROCKETMQ__INSTANCE_ID" in result.out


def test_the_help_of_the_demo_tells_its_own_defaults_and_leaves_out_what_it_sets_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", "--help"])
    out = capsys.readouterr().out
    assert "BRIDGE_HTTP__HOST [127.0.0.1]" in out
    assert "BRIDGE_ROCKETMQ__MAX_POLLERS [8]" in out
    assert not re.search("BRIDGE_ROCKETMQ__(ENDPOINT|TAG|ACCESS_KEY_ID)|BRIDGE_MANAGEMENT__ENDPOINT", out)


async def test_without_a_command_the_commands_are_named(tmp_path: Path) -> None:
    result = await bridge(folder=tmp_path)
    assert result.code == 2
    assert "required: COMMAND" in result.err
    assert "Traceback" not in result.err


# ---- publish ---------------------------------------------------------------------------------------------------------


async def received(emulator: Emulator, folder: Path, number: int, *flags: str) -> list[dict[str, object]]:
    """What a bridge makes of the messages."""
    async with started("run", *flags, folder=folder, settings=settings_for(emulator)) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return [json.loads(await process.stdout.readline()) for _ in range(number)]


async def test_publish_takes_the_body_with_its_tag_keys_and_properties(emulator: Emulator, tmp_path: Path) -> None:
    result = await bridge(
        "publish", "--tag", "TagA", "--rocketmq.topic", TOPIC, "--keys", "order-1", "--property", "colour=blue",
        "--property", "mood=good=better", "a body: <é> 茶",
        folder=tmp_path, settings={**settings_for(emulator), "BRIDGE_ROCKETMQ__TOPIC": "another"},
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    (event,) = await received(emulator, tmp_path, 1)
    assert event["id"] == result.out.strip()
    assert (event["data"], event["mqtag"], event["mqkeys"]) == ("a body: <é> 茶", "TagA", "order-1")
    assert json.loads(str(event["mqproperties"])) == {"colour": "blue", "mood": "good=better"}


async def test_publish_takes_each_line_of_standard_input(emulator: Emulator, tmp_path: Path) -> None:
    result = await bridge("publish", folder=tmp_path, settings=settings_for(emulator), stdin="one\n{二: 2}\nthree".encode())
    assert (result.code, result.err) == (0, "")
    events = await received(emulator, tmp_path, 3)
    assert {event["id"]: event["data"] for event in events} == dict(
        zip(result.out.split(), ["one", "{二: 2}", "three"], strict=True)
    )


async def test_publish_delivers_no_sooner_than_told(emulator: Emulator, tmp_path: Path) -> None:
    at = str(emulator.now() + 3_600_000)
    result = await bridge("publish", "--deliver-at", at, "later", folder=tmp_path, settings=settings_for(emulator))
    assert result.code == 0
    (book,) = emulator.broker.books(emulator.now())
    assert (book.topic, book.delayed, book.published) == (TOPIC, 1, 0)


async def test_publish_passes_over_empty_lines(emulator: Emulator, tmp_path: Path) -> None:
    result = await bridge("publish", folder=tmp_path, settings=settings_for(emulator), stdin=b"a\n\nb\n")
    assert (result.code, len(result.out.split())) == (0, 2)


@pytest.mark.parametrize(("body", "stdin"), [((), b"\xff\n"), (("",), b"")], ids=["no text", "empty"])
async def test_publish_says_what_cannot_be_published(
    emulator: Emulator, tmp_path: Path, body: tuple[str, ...], stdin: bytes
) -> None:
    result = await bridge("publish", *body, folder=tmp_path, settings=settings_for(emulator), stdin=stdin)
    assert result.code == 1
    assert one_line(result).startswith("publishing a message: ")


async def test_publish_goes_through_the_proxy_that_is_set(tmp_path: Path) -> None:
    targets: list[str] = []

    async def forward(request: web.BaseRequest) -> web.Response:
        targets.append(request.raw_path)
        body = '<?xml version="1.0"?><Message xmlns="http://mq.aliyuncs.com/doc/v1"><MessageId>ABC</MessageId></Message>'
        return web.Response(status=201, text=body, content_type="text/xml", headers={"x-mq-version": VERSION})

    runner = web.ServerRunner(web.Server(forward))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    environ = {
        "BRIDGE_ROCKETMQ__ENDPOINT": "http://broker.invalid",
        "BRIDGE_ROCKETMQ__TOPIC": TOPIC,
        "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET",
        "HTTP_PROXY": f"127.0.0.1:{runner.addresses[0][1]}",
    }
    result = await bridge("publish", "hello", folder=tmp_path, settings=environ)
    await runner.cleanup()
    assert (result.code, result.out, result.err) == (0, "ABC\n", "")
    assert targets == [f"http://broker.invalid/topics/{TOPIC}/messages"]


# ---- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "publish"])
async def test_a_wrong_key_ends_it_with_one_line_that_says_what_to_check(
    emulator: Emulator, tmp_path: Path, command: str
) -> None:
    wrong = {**settings_for(emulator), "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "WR0NG", "BRIDGE_LOG__LEVEL": "error"}
    result = await bridge(command, folder=tmp_path, settings=wrong, stdin=b"hello\n")
    assert result.code == 2
    line = one_line(result)
    assert "SignatureDoesNotMatch" in line
    assert "check BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET" in line
    assert "WR0NG" not in line


@pytest.mark.parametrize("command", ["run", "demo", "emulator"])
async def test_a_port_that_is_taken_ends_it_with_one_line_that_names_the_setting(
    emulator: Emulator, tmp_path: Path, taken_port: int, command: str
) -> None:
    section = "EMULATOR" if command == "emulator" else "HTTP"
    settings = {**settings_for(emulator), f"BRIDGE_{section}__PORT": str(taken_port), "BRIDGE_LOG__LEVEL": "error"}
    result = await bridge(command, folder=tmp_path, settings=settings)
    assert (result.code, result.out) == (2, "")
    line = result.err.splitlines()[-1]
    assert line.startswith(f"bridge: BRIDGE_{section}__HOST and __PORT: listening on 127.0.0.1 port {taken_port}: ")
    assert "Traceback" not in result.err


async def test_a_stdout_that_is_closed_is_a_mistake_and_no_black_hole(emulator: Emulator, tmp_path: Path) -> None:
    """Else the next socket would get its number, and events be written into the socket, and confirmed."""
    emulator.publish(TOPIC, "hello")
    settings = environment(settings_for(emulator))
    command = ["bash", "-c", 'exec "$0" -m bridge run >&- <&-', sys.executable]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=settings, stderr=subprocess.PIPE)
    try:
        result = await finished(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("bridge: stdout is closed: ")
    assert emulator.broker.calls.total() == 0


# ---- emulator --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_emulator_says_where_it_listens_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    settings = {"BRIDGE_EMULATOR__TOPICS": "orders, refunds"}
    async with started("emulator", "--emulator.port", "0", folder=tmp_path, settings=settings) as process:
        url = (await said(process, "the emulator listens on ")).split()[-1]
        environ = {"BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID", "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET"}
        published = await bridge(
            "publish", "--rocketmq.endpoint", url, "--rocketmq.topic=refunds", "hello", folder=tmp_path, settings=environ
        )
        assert (published.code, published.err) == (0, "")
        async with aiohttp.ClientSession() as session, session.get(f"{url}/emulator/books") as response:
            (topic,) = [topic for topic in (await response.json())["topics"] if topic["topic"] == "refunds"]
        assert topic["published"] == 1
        process.send_signal(number)
        result = await finished(process)
        assert (result.code, result.out, result.err) == (0, "", "")


# ---- demo ------------------------------------------------------------------------------------------------------------


def ids(result: Finished) -> list[object]:
    return [json.loads(line)["id"] for line in result.out.splitlines()]


async def test_the_demo_delivers_so_many_messages_and_nothing_else_to_stdout(tmp_path: Path) -> None:
    result = await bridge("demo", "--messages", "50", folder=tmp_path)
    assert result.code == 0
    assert len(ids(result)) == len(set(ids(result))) == 50
    assert "Traceback" not in result.err


async def test_the_demo_keeps_to_its_own_broker_whatever_instance_and_proxy_are_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "BRIDGE_ROCKETMQ__ENDPOINT=http://broker.invalid\nBRIDGE_ROCKETMQ__INSTANCE_ID=MQ_INST_1\nBRIDGE_ROCKETMQ__TAG=TagA\n"
    )
    result = await bridge("demo", "--messages", "5", folder=tmp_path, settings={"http_proxy": "http://127.0.0.1:1"})
    assert result.code == 0
    assert len(ids(result)) == 5


async def test_the_demo_goes_on_through_the_faults_it_was_asked_for(tmp_path: Path) -> None:
    settings = {"BRIDGE_EMULATOR__FAULTS__INTERNAL_ERROR": "0.2", "BRIDGE_LOG__LEVEL": "error"}
    result = await bridge("demo", "--messages=20", folder=tmp_path, settings=settings)
    assert result.code == 0
    assert len(set(ids(result))) == 20
    assert "Traceback" not in result.err


async def test_the_demo_ends_with_one_line_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    """As in `bridge demo | head -1`."""
    reader, writer = os.pipe()
    async with started("demo", folder=tmp_path, stdout=writer) as process:
        os.close(writer)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await asyncio.to_thread(os.read, reader, 1)) == b"{"
        os.close(reader)
        result = await finished(process)
    assert result.code == 1
    assert result.err.splitlines()[-1] == "bridge: stdout was closed by its reader: the bridge ends"
    assert "Traceback" not in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_demo_goes_on_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    async with started("demo", folder=tmp_path) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.stdout.readline()
        process.send_signal(number)
        result = await finished(process)
    assert result.code == 0
    assert "Traceback" not in result.err


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_the_demo_says_how_many_messages_there_can_be(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(["demo", f"--messages={number}"])
    assert exited.value.code == 2
    assert "argument --messages: should be a whole number from 1 on" in capsys.readouterr().err


async def test_output_that_nobody_reads_ends_it_quietly(emulator: Emulator, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    async with started("config", folder=tmp_path, settings=settings_for(emulator), stdout=writer) as process:
        os.close(writer)
        result = await finished(process)
    assert (result.code, result.err) == (1, "")
