"""The command `bridge check`, as people and machines see it."""

import json
from pathlib import Path

import pytest

from bridge import cli
from bridge.check.findings import Finding, Status, as_text
from bridge.emulator.server import Emulator
from check.looking import closed_port
from outside.command import bridge, settings_for

NAMES = [
    "credentials", "name", "connection", "endpoint", "clock", "access_key", "topic", "permission", "group",
    "sink.stdout", "dead_letter", "ledger", "management",
]  # fmt: skip
"""Machines rely on them."""


async def test_a_line_for_each_question_on_stdout_and_exit_code_0(emulator: Emulator, tmp_path: Path) -> None:
    result = await bridge("check", folder=tmp_path, settings=settings_for(emulator))
    assert (result.code, result.err) == (0, "")
    lines = [line.split(maxsplit=2) for line in result.out.splitlines()]
    assert [name for _, name, _ in lines] == NAMES
    assert {status for status, *_ in lines} == {"ok", "unknown", "skipped"}
    columns = {line.index(text) for line, (*_, text) in zip(result.out.splitlines(), lines, strict=True)}
    assert len(columns) == 1, "the texts are aligned"


async def test_json_for_machines_and_exit_code_1_for_what_is_wrong(emulator: Emulator, tmp_path: Path) -> None:
    settings = {
        **settings_for(emulator),
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "GUESSED",
        "BRIDGE_SINK": "kafka",
        "BRIDGE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{closed_port()}",
        "BRIDGE_KAFKA__TOPIC": "orders",
    }
    result = await bridge("check", "--json", folder=tmp_path, settings=settings)
    assert (result.code, result.err) == (1, "")
    document = json.loads(result.out)
    assert document["ok"] is False
    assert all(set(one) == {"name", "status", "text"} for one in document["checks"])
    wrong = [one["name"] for one in document["checks"] if one["status"] == "wrong"]
    assert wrong == ["access_key", "sink.kafka"]
    assert "GUESSED" not in result.out


def test_wrong_settings_are_told_at_once_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["check", "--json", "--rocketmq.endpoint=nowhere", "--rocketmq.topic=a b", "--rocketmq.group-id=x"])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    mistakes = [line.split()[1].rstrip(":") for line in err.splitlines()]
    assert mistakes == ["BRIDGE_ROCKETMQ__ENDPOINT", "BRIDGE_ROCKETMQ__TOPIC", "BRIDGE_ROCKETMQ__GROUP_ID"]


async def test_without_a_key_anywhere_everything_else_is_still_looked_at(emulator: Emulator, tmp_path: Path) -> None:
    settings = {name: text for name, text in settings_for(emulator).items() if "ACCESS_KEY" not in name}
    nowhere = {"HOME": str(tmp_path), "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
    result = await bridge("check", folder=tmp_path, settings={**settings, **nowhere, "BRIDGE_MANAGEMENT__ENABLED": "true"})
    assert (result.code, result.err) == (1, "")
    found = {name: (status, text) for status, name, text in (line.split(maxsplit=2) for line in result.out.splitlines())}
    assert found["credentials"][0] == "wrong"
    assert "BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET are not set" in found["credentials"][1]
    assert found["connection"][0] == found["sink.stdout"][0] == "ok"
    assert found["permission"] == found["management"] == ("unknown", "see credentials")


def test_a_text_of_several_lines_takes_one() -> None:
    assert as_text([Finding("a", Status.OK, "one\ntwo")]) == "ok       a  one two"
