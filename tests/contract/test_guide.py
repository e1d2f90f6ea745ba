"""docs/writing-a-sink.md, done word by word: what it shows is written, installed, listed, run and tested."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "writing-a-sink.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "nats-sink"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Folder:
    """The fresh folder, and where its package was installed."""

    path: Path

    def run(self, *arguments: str, **settings: str) -> str:
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("BRIDGE_", "PYTEST"))}
        run = subprocess.run(
            [sys.executable, *arguments], cwd=self.path, env={**inherited, **settings, "PYTHONPATH": str(self.path / "site")},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout
        return run.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("fresh"))
    sink, test = (block for block in blocks("python") if "import asyncio" in block or "import json" in block)
    (metadata,) = blocks("toml")
    for name, text in {"bridge_file.py": sink, "test_contract.py": test, "pyproject.toml": metadata}.items():
        assert f"`{name}`" in GUIDE
        (folder.path / name).write_text(text, encoding="utf-8")
    pip: Sequence[str] = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    folder.run(*pip, "--no-build-isolation", "--target", str(folder.path / "site"), ".")
    return folder


def test_what_the_guide_installs_is_listed_as_it_says(folder: Folder) -> None:
    (shown,) = re.findall(r"^\$ bridge sinks\n(.*?)^…$", GUIDE, re.DOTALL | re.MULTILINE)
    assert shown in folder.run("-m", "bridge", "sinks")


def test_what_the_guide_runs_delivers(folder: Folder) -> None:
    command = "BRIDGE_SINK=file BRIDGE_FILE__PATH=events.jsonl bridge demo --messages 5"
    assert f"$ {command}\n" in GUIDE
    folder.run("-m", "bridge", "demo", "--messages", "5", BRIDGE_SINK="file", BRIDGE_FILE__PATH="events.jsonl")
    lines = (folder.path / "events.jsonl").read_bytes().splitlines()
    assert len({orjson.loads(line)["id"] for line in lines}) == len(lines) == 5


def test_the_sink_of_the_guide_passes_the_contract_by_the_rig_of_the_guide(folder: Folder) -> None:
    report = folder.run("-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "test_contract.py")
    assert "test_confirms_only_what_is_durable PASSED" in report
    assert "test_what_is_held_is_the_event PASSED" in report
    for line in re.findall(r"^SKIPPED \[\d+\] … (.*)$", GUIDE, re.MULTILINE):
        assert line in report


def test_what_the_guide_shows_of_the_example_is_what_stands_there() -> None:
    files = [path.read_text(encoding="utf-8") for path in EXAMPLE.rglob("*.py")]
    shown = [block for block in blocks("python") if "import asyncio" not in block and "import json" not in block]
    assert len(shown) > 5
    for block in shown:
        assert any(block in text for text in files), block


def test_every_test_that_the_guide_names_is_one() -> None:
    suite = (ROOT / "bridge" / "testing" / "contract.py").read_text(encoding="utf-8")
    for name in re.findall(r"`(test_\w+)`", GUIDE):
        assert f"async def {name}(" in suite
