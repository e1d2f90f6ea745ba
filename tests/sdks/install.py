"""Brings the official Node.js and Java SDKs into `.cache/sdks`; Python's is one of the project's own dev dependencies.

A test that needs an SDK installs it on its way. To have all of them beforehand: `PYTHONPATH=tests python -m sdks.install`.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from maven_jars import JarUnavailableError, fetch_jars

Sdk: TypeAlias = Literal["python", "node", "java"]

SDKS: tuple[Sdk, ...] = get_args(Sdk)

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parents[1] / ".cache" / "sdks"
_INSTALL_TIMEOUT_SECONDS = 300
# npm's own waits, 10 s and then 60 s, outlast a test's patience where no registry is within reach.
_NPM_RETRIES = ("--fetch-retries=3", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=3000")


class SdkMissingError(Exception):
    """An SDK can't be run on this machine; the text says what to install."""


def launch_command(sdk: Sdk) -> tuple[list[str], dict[str, str]]:
    """Install the SDK if need be; the command that starts its driver, and what to add to the environment for it.

    Waits for another process that is installing the same SDK. Raises SdkMissingError.
    """
    match sdk:
        case "python":
            return _python()
        case "node":
            return _node()
        case "java":
            return _java()


def _python() -> tuple[list[str], dict[str, str]]:
    if importlib.util.find_spec("mq_http_sdk") is None:
        raise SdkMissingError("the Python SDK isn't installed: `pip install mq_http_sdk`")
    return [sys.executable, str(_HERE / "python" / "driver.py")], {}


def _node() -> tuple[list[str], dict[str, str]]:
    node, npm = _program("node", "Node.js"), _program("npm", "Node.js with npm")
    sources = _HERE / "node"
    manifests = [sources / "package.json", sources / "package-lock.json"]

    def install(folder: Path) -> None:
        for manifest in manifests:
            shutil.copy(manifest, folder)
        try:
            _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", *_NPM_RETRIES], folder)
        except subprocess.SubprocessError as error:
            raise SdkMissingError("the Node.js SDK isn't within reach: `npm ci` must reach the npm registry") from error

    installed = _installed("node", manifests, install)
    return [node, str(sources / "driver.js")], {"NODE_PATH": str(installed / "node_modules")}


def _java() -> tuple[list[str], dict[str, str]]:
    java, javac = _program("java", "a JDK, 11 or newer"), _program("javac", "a JDK, 11 or newer")
    source, listing = _HERE / "java" / "Driver.java", _HERE / "java" / "jars.txt"
    try:
        jars = [str(jar) for jar in fetch_jars(listing, _CACHE / "jars")]
    except JarUnavailableError as error:
        raise SdkMissingError(f"the Java SDK isn't within reach: {error}") from error

    def compile_driver(folder: Path) -> None:
        _run([javac, "--release", "11", "-cp", os.pathsep.join(jars), "-d", str(folder), str(source)], folder)

    classes = _installed("java", [source, listing], compile_driver)
    # A short-lived JVM: the quick compiler and the small collector start soonest and leave the cores to the others.
    flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]
    return [java, *flags, "-cp", os.pathsep.join([str(classes), *jars]), "Driver"], {}


def _program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SdkMissingError(f"`{name}` isn't installed: install {package}")
    return path


def _installed(name: str, inputs: Sequence[Path], fill: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled once for each state of the inputs. It appears under its name only when complete."""
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    folder = _CACHE / f"{name}-{state}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(_CACHE / f"{name}.lock"):
        if not folder.exists():
            partial = _CACHE / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            fill(partial)
            partial.rename(folder)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The kernel lets go of it when its process dies, so a killed test run leaves nothing to clean up.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            timeout=_INSTALL_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        error.add_note(error.stdout.strip())
        raise


def main() -> int:
    """Install all of them, and say so; where CI is set, it is a failure that one is missing."""
    missing = False
    for sdk in SDKS:
        try:
            launch_command(sdk)
        except SdkMissingError as error:
            missing = True
            sys.stderr.write(f"{sdk} SDK: its tests will be skipped: {error}\n")
    return int(missing and os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())
