"""Which sinks are chosen, for events and for dead letters, and how their settings are read."""

from pathlib import Path

import pytest

from bridge import cli
from bridge.errors import FixSettingsError
from bridge.loading import load
from bridge.settings import EmulatorSettings, RunSettings
from outside import plugin

QUEUE_SINK = """
from pydantic import BaseModel, Field, SecretStr
from bridge.sinks import Sink

class Settings(BaseModel):
    queue: str = Field(description="the queue to write to")
    host: str = Field(default="localhost", description="where it is")
    password: SecretStr | None = Field(default=None, description="its password")

class TheSink(Sink):
    Settings = Settings
    destination = ("queue",)
    async def send(self, events, deadline):
        raise NotImplementedError
"""

BROKER = {
    "BRIDGE_ROCKETMQ__ENDPOINT": "http://h",
    "BRIDGE_ROCKETMQ__TOPIC": "t",
    "BRIDGE_ROCKETMQ__GROUP_ID": "GID_g",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET",
}


@pytest.fixture(autouse=True)
def queues(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two sinks that somebody else wrote."""
    for name in ("queue", "second"):
        monkeypatch.syspath_prepend(plugin.install(tmp_path / name, name=name, code=QUEUE_SINK))


def loaded(folder: Path, **more: str) -> RunSettings:
    return load(
        RunSettings, environ={**BROKER, **{f"BRIDGE_{name}": text for name, text in more.items()}}, folder=folder
    ).settings


def mistakes(folder: Path, **more: str) -> list[str]:
    with pytest.raises(FixSettingsError) as caught:
        loaded(folder, **more)
    return str(caught.value).splitlines()


def test_several_sinks_are_chosen_with_commas(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SINK="stdout, queue,stdout", QUEUE__QUEUE="q")
    assert settings.sinks == ["stdout", "queue"]
    assert settings.of_sink("queue").model_dump()["queue"] == "q"


def test_a_name_that_no_sink_has_lists_the_installed_ones(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, SINK="stdout,quueue")
    assert "'quueue'" in mistake
    assert "queue" in mistake
    assert "stdout" in mistake


def test_dead_letters_take_over_what_is_not_set_for_them_but_for_where_they_go(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        SINK="queue",
        QUEUE__QUEUE="events",
        QUEUE__HOST="h1",
        QUEUE__PASSWORD="pw",
        DEAD_LETTER__SINK="queue",
        DEAD_LETTER__QUEUE__QUEUE="letters",
    )
    dumped = settings.of_dead_letters.model_dump()
    assert (dumped["queue"], dumped["host"], dumped["password"].get_secret_value()) == ("letters", "h1", "pw")


def test_dead_letters_may_go_to_a_sink_that_events_do_not_go_to(tmp_path: Path) -> None:
    settings = loaded(tmp_path, DEAD_LETTER__SINK="queue", QUEUE__HOST="h1", DEAD_LETTER__QUEUE__QUEUE="letters")
    assert (settings.sinks, settings.dead_letter.sink) == (["stdout"], "queue")
    assert settings.of_dead_letters.model_dump()["host"] == "h1"


def test_where_dead_letters_go_is_required(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, SINK="queue", QUEUE__QUEUE="events", DEAD_LETTER__SINK="queue")
    assert mistake.startswith("BRIDGE_DEAD_LETTER__QUEUE__QUEUE is not set")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"SINK": "queue", "QUEUE__QUEUE": "q", "DEAD_LETTER__SINK": "queue", "DEAD_LETTER__QUEUE__QUEUE": "q"},
            "BRIDGE_DEAD_LETTER__QUEUE__QUEUE",
        ),
        ({"DEAD_LETTER__SINK": "stdout"}, "BRIDGE_DEAD_LETTER__SINK"),
        ({"DELIVERY__MAX_DELIVERIES": "3"}, "BRIDGE_DELIVERY__MAX_DELIVERIES"),
        ({"DEAD_LETTER__SINK": "nobody"}, "BRIDGE_DEAD_LETTER__SINK"),
        ({"SINK": ","}, "BRIDGE_SINK"),
        ({"SINK": "queue", "QUEUE__QUEUE": "q", "QUEUE__HOTS": "h"}, "BRIDGE_QUEUE__HOTS"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    (mistake,) = mistakes(tmp_path, **settings)
    assert mistake.startswith(named)


def test_a_command_without_dead_letters_takes_no_offence_at_their_settings(tmp_path: Path) -> None:
    environ = {"BRIDGE_DEAD_LETTER__SINK": "queue", "BRIDGE_DEAD_LETTER__QUEUE__QUEUE": "letters"}
    load(EmulatorSettings, environ=environ, folder=tmp_path)
    with pytest.raises(FixSettingsError, match="BRIDGE_DEAD_LETTER__QUUE__QUEUE"):
        load(EmulatorSettings, environ={"BRIDGE_DEAD_LETTER__QUUE__QUEUE": "letters"}, folder=tmp_path)


def test_bridge_sinks_lists_what_is_installed_from_where_and_what_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sinks"]) == 0
    printed = capsys.readouterr().out
    assert "queue  (their_queue 1.0)" in printed
    assert "  BRIDGE_QUEUE__HOST [localhost]\n      where it is\n" in printed
    assert "stdout  (rocketmq-bridge" in printed


def test_bridge_sinks_says_which_package_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import a_package_that_is_not_there\n"
    monkeypatch.syspath_prepend(plugin.install(tmp_path / "broken", name="broken", code=code))
    assert cli.main(["sinks"]) == 0
    assert "their_broken can't be imported: ModuleNotFoundError" in capsys.readouterr().out
    with pytest.raises(FixSettingsError, match="their_broken"):
        loaded(tmp_path, SINK="broken")


def test_a_sink_of_another_contract_version_stops_the_start_and_names_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = QUEUE_SINK.replace("    Settings = Settings\n", "    Settings = Settings\n    contract = 99\n")
    monkeypatch.syspath_prepend(plugin.install(tmp_path / "future", name="future", code=code))
    (mistake,) = [line for line in mistakes(tmp_path, SINK="future") if "contract" in line]
    assert "their_future" in mistake
    assert "99" in mistake
