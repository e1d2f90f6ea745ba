"""What can be said of the Dockerfile and of compose.yaml without building or starting anything."""

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.loading import load
from bridge.settings import EmulatorSettings, PublishSettings, RunSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return parsed


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_is_heard_when_it_has_something_to_say(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:latest\n", encoding="utf-8")
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DL3007" in done.stdout


def test_the_settings_in_compose_are_settings(compose: dict[str, Any], tmp_path: Path) -> None:
    def environ(service: str) -> dict[str, str]:
        return {name: str(value) for name, value in compose["services"][service]["environment"].items()}

    bridge = load(RunSettings, environ=environ("bridge"), folder=tmp_path).settings
    emulator = load(EmulatorSettings, environ=environ("apsaramq"), folder=tmp_path).settings.emulator
    publisher = load(PublishSettings, environ=environ("publisher"), folder=tmp_path).settings.rocketmq

    assert bridge.rocketmq.endpoint == publisher.endpoint == f"http://apsaramq:{emulator.port}"
    assert bridge.rocketmq.topic == publisher.topic
    assert bridge.management.enabled, "the dashboard shows the backlog"
    grace = int(compose["services"]["bridge"]["stop_grace_period"].removesuffix("s"))
    assert grace > bridge.shutdown.grace_seconds
    prometheus = yaml.safe_load((ROOT / "ops/compose/prometheus.yml").read_text(encoding="utf-8"))
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == [f"bridge:{bridge.http.port}"]


def test_what_compose_mounts_is_there_and_no_image_is_whatever_came_last(compose: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])]
    assert len(mounted) == 5
    assert [path for path in mounted if not (ROOT / path).exists()] == []
    tags = [service["image"].partition(":")[2] for service in compose["services"].values()]
    assert all(tag not in {"", "latest"} for tag in tags)
