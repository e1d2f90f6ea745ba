"""docs/writing-a-sink.md, done word by word: what it shows is written, installed, listed, run and tested."""

import asyncio
import importlib.util
import os
import re
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import orjson
import pytest

from bridge.sinks import CONFIRMED, Again, Outcome, Sink
from bridge.testing import make_event

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "writing-a-sink.md").read_text(encoding="utf-8")
FILE_CHAPTERS, NETWORK_CHAPTER = GUIDE.split("\n## Over a network\n")
EXAMPLE = ROOT / "examples" / "nats-sink"
DEMO, DEMO_WITH_DEAD_LETTERS = re.findall(r"^\$ (BRIDGE_SINK=(?:.|\\\n)*bridge demo --messages \d+)$", GUIDE, re.MULTILINE)


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


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

    def demo(self, command: str) -> None:
        """Run a command of the guide that is the demo, with what is set before it."""
        settings, _, arguments = command.replace("\\\n", "").partition("bridge ")
        self.run("-m", "bridge", *arguments.split(), **dict(setting.split("=") for setting in settings.split()))

    def ids(self, name: str) -> list[str]:
        return [orjson.loads(line)["id"] for line in (self.path / name).read_bytes().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("fresh"))
    sink, test = blocks("python", FILE_CHAPTERS)
    (metadata,) = blocks("toml", FILE_CHAPTERS)
    for name, text in {"bridge_file.py": sink, "test_contract.py": test, "pyproject.toml": metadata}.items():
        assert f"`{name}`" in FILE_CHAPTERS
        (folder.path / name).write_text(text, encoding="utf-8")
    pip: Sequence[str] = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    folder.run(*pip, "--no-build-isolation", "--target", str(folder.path / "site"), ".")
    return folder


@pytest.fixture(scope="module")
def bridge_file(folder: Folder) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bridge_file", folder.path / "bridge_file.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def opened(bridge_file: ModuleType, path: Path) -> AsyncIterator[Sink]:
    sink: Sink = bridge_file.FileSink(bridge_file.FileSettings(path=path))
    await sink.open()
    yield sink
    await sink.close()


async def send(sink: Sink, *bodies: str) -> Sequence[Outcome]:
    return await sink.send([make_event(body) for body in bodies], asyncio.get_running_loop().time() + 20)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What is written beyond so many bytes of a file fails, after what fits was written: as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_the_guide_installs_is_listed_as_it_says(folder: Folder) -> None:
    (shown,) = re.findall(r"^\$ bridge sinks\n(.*?)^…$", GUIDE, re.DOTALL | re.MULTILINE)
    assert shown in folder.run("-m", "bridge", "sinks")


def test_what_the_guide_runs_delivers(folder: Folder) -> None:
    folder.demo(DEMO)
    assert len({*folder.ids("events.jsonl")}) == len(folder.ids("events.jsonl")) == 5
    assert "\n5 events.jsonl\n" in GUIDE


def test_what_the_guide_refuses_becomes_dead_letters(folder: Folder) -> None:
    folder.demo(DEMO_WITH_DEAD_LETTERS)
    short, long = folder.ids("short.jsonl"), folder.ids("long.jsonl")
    assert len({*short, *long}) == len(short) + len(long) == 6
    assert f"\n   {len(short)} short.jsonl\n   {len(long)} long.jsonl\n" in GUIDE


def test_the_sink_of_the_guide_passes_the_contract_by_the_rig_of_the_guide(folder: Folder) -> None:
    report = folder.run("-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "--color=no", "test_contract.py")
    for test in ("confirms_only_what_is_durable", "what_is_held_is_the_event", "names_exactly_the_events_that_failed"):
        assert f"test_{test} PASSED" in report
    shown = re.findall(r"^SKIPPED (\[\d+\]) … (.*)$", GUIDE, re.MULTILINE)
    assert shown
    for count, reason in shown:
        assert re.search(rf"^SKIPPED {re.escape(count)} .*: {re.escape(reason)}$", report, re.MULTILINE), report


async def test_the_sink_of_the_guide_writes_a_batch_whole_or_not_at_all(bridge_file: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    async with opened(bridge_file, path) as sink:
        assert await send(sink, "before") == [CONFIRMED]
        before = path.read_bytes()
        with files_of_at_most(len(before) + 500):
            outcomes = await send(sink, "one that fits", "x" * 500)
        assert path.read_bytes() == before
        assert all(isinstance(outcome, Again) and "too large" in outcome.reason for outcome in outcomes), outcomes
        assert await send(sink, "after") == [CONFIRMED]
    assert [orjson.loads(line)["data"] for line in path.read_bytes().splitlines()] == ["before", "after"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_the_sink_of_the_guide_says_what_failed_though_nothing_can_be_undone(bridge_file: ModuleType) -> None:
    async with opened(bridge_file, Path("/dev/full")) as sink:
        assert await send(sink, "one", "two") == [Again("writing to /dev/full: No space left on device")] * 2


async def test_the_sink_of_the_guide_appends_nothing_to_a_line_that_was_cut_off(
    bridge_file: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"id":"cut o')
    async with opened(bridge_file, path) as sink:
        assert await send(sink, "after") == [CONFIRMED]
    cut_off, line = path.read_text().splitlines()
    assert cut_off == '{"id":"cut o'
    assert orjson.loads(line)["data"] == "after"


def test_the_network_chapter_is_the_whole_example_and_its_contract_test() -> None:
    *module, contract = blocks("python", NETWORK_CHAPTER)
    assert not_blank("".join(module)) == not_blank((EXAMPLE / "rocketmq_bridge_nats.py").read_text(encoding="utf-8"))
    assert contract == (EXAMPLE / "tests" / "test_contract.py").read_text(encoding="utf-8")


def not_blank(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def test_every_test_that_the_guide_names_is_one() -> None:
    suite = (ROOT / "bridge" / "testing" / "contract.py").read_text(encoding="utf-8")
    for name in re.findall(r"`(test_\w+)`", GUIDE):
        assert f"async def {name}(" in suite
