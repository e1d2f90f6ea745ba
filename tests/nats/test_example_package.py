"""The example of a sink by somebody else: installed as a stranger would, into an environment of its own, and tested there."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from missing import skip_without

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "nats-sink"
CACHE = ROOT / ".cache" / "nats-sink"
LOCKS = (ROOT / "locks" / "build.txt", ROOT / "locks" / "run.txt", EXAMPLE / "requirements.txt")
INSTALL_SECONDS, TEST_SECONDS = 240, 240

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + TEST_SECONDS)  # whichever test is the first pays for the installation


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """The Python of an environment in which the bridge and the package are installed, as they are in this folder now."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / "lock"):
        try:
            python = _environment()
        except subprocess.SubprocessError as problem:
            skip_without(
                f"the packages of {LOCKS[-1].relative_to(ROOT)} can't be installed: pip must reach a package index: {problem}"
            )
        _install_what_is_new(python)
        yield python


def test_a_package_by_somebody_else_passes_the_contract_and_delivers(python: Path) -> None:
    run = _run([python, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-v"], seconds=TEST_SECONDS, check=False)
    assert run.returncode == 0, run.stdout
    passed = {*re.findall(r"::(test_\w+) PASSED", run.stdout)}
    assert {"test_confirms_only_what_is_durable", "test_the_bridge_finds_it_by_its_name_and_delivers"} <= passed
    assert "SKIPPED" not in run.stdout, "its rig can do everything, so nothing is skipped"


def test_the_bridge_lists_the_settings_of_an_installed_package(python: Path) -> None:
    shown = _run([python, "-m", "bridge", "config"], seconds=30, check=False, BRIDGE_SINK="nats")
    assert (
        "BRIDGE_NATS__SUBJECT is not set, and is required (the subject of every message; a stream must take it)" in shown.stdout
    )


def _environment() -> Path:
    """One for each state of the locks; older ones go."""
    folder = CACHE / f"venv-{_state(LOCKS)}"
    python = folder / "bin" / "python"
    if not folder.exists():
        for old in CACHE.glob("venv-*"):
            shutil.rmtree(old)
        try:
            venv.create(folder, with_pip=True)
            requirements = [part for lock in LOCKS for part in ("-r", str(lock))]
            _pip(python, "--require-hashes", *requirements)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return python


def _install_what_is_new(python: Path) -> None:
    sources = [path for folder in (ROOT / "bridge", EXAMPLE) for path in folder.rglob("*.py")]
    state = _state([*sorted(sources), ROOT / "pyproject.toml", EXAMPLE / "pyproject.toml"])
    installed = python.parents[1] / "installed"
    if not installed.exists() or installed.read_text() != state:
        _pip(python, "--no-build-isolation", "--force-reinstall", str(ROOT), str(EXAMPLE))
        installed.write_text(state)


def _state(paths: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths) + sys.version.encode()).hexdigest()[:16]


def _pip(python: Path, *arguments: str) -> None:
    options = ("--disable-pip-version-check", "--quiet", "--no-deps")
    _run([python, "-m", "pip", "install", *options, *arguments], seconds=INSTALL_SECONDS)


def _run(
    command: Sequence[str | Path], *, seconds: float, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: text for name, text in os.environ.items() if not re.match("BRIDGE_|PYTHON|PYTEST|COV_|VIRTUAL_ENV", name)
    }
    try:
        return subprocess.run(
            command, cwd=EXAMPLE, env={**inherited, **environment}, timeout=seconds, check=check,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as problem:
        problem.add_note(problem.stdout)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The kernel lets go of it when its process dies, so a killed test run leaves nothing to clean up.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
