"""Programs that do what the bridge does, as a competent user of the official SDKs would write them.

Each polls, hands a batch to Kafka as it comes (the body is the value, the message id the key), and acks what Kafka has
confirmed, one request a batch. None checks a digest, writes an event, remembers a delivery, minds a deadline or counts
anything.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.programs import CACHE, BenchError
from maven_jars import JarUnavailableError, fetch_jars

_HERE = Path(__file__).resolve().parent
_TESTS = _HERE.parents[1] / "tests"
_SET_UP_SECONDS = 600
_KAFKA_CLIENTS = ("kafka-clients", "lz4-java", "snappy-java", "zstd-jni", "slf4j-api")


@dataclass(frozen=True)
class Peer:
    """How one is started: command, ENDPOINT, TOPIC, BROKERS, KAFKA_TOPIC, WORKERS."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def python() -> Peer:
    """The official Python SDK with confluent-kafka; both are dev dependencies of the project."""
    return Peer([sys.executable, str(_HERE / "python_sdk.py")])


def java() -> Peer:
    """The official Java SDK with kafka-clients, on the JVM's own choices for one core."""
    source = _HERE / "java" / "Consume.java"
    try:
        sdk = fetch_jars(_TESTS / "sdks" / "java" / "jars.txt", CACHE / "jars" / "sdk")
        kafka = fetch_jars(_TESTS / "kafka_jars.txt", CACHE.parent / "kafka" / "jars")
    except JarUnavailableError as error:
        raise BenchError(f"the Java peer: {error}") from error
    jars = [str(jar) for jar in [*sdk, *kafka] if jar in sdk or jar.name.startswith(_KAFKA_CLIENTS)]

    def compile_source(folder: Path) -> None:
        _run([_program("javac"), "--release", "17", "-cp", os.pathsep.join(jars), "-d", str(folder), str(source)])

    classes = _made("java", [source], compile_source)
    return Peer([_program("java"), "-cp", os.pathsep.join([str(classes), *jars]), "Consume"])


def node() -> Peer:
    """The official Node.js SDK with kafkajs."""
    sources = _HERE / "node"
    manifests = [sources / "package.json", sources / "package-lock.json"]

    def install(folder: Path) -> None:
        for manifest in manifests:
            shutil.copy(manifest, folder)
        _run([_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)])

    modules = _made("node", manifests, install) / "node_modules"
    return Peer([_program("node"), str(sources / "consume.js")], {"NODE_PATH": str(modules)})


def go() -> Peer:
    """Our own, in Go with franz-go: the official Go SDK is in no registry."""
    sources = _HERE / "go"
    inputs = [sources / name for name in ("main.go", "go.mod", "go.sum")]

    def build(folder: Path) -> None:
        _run([_program("go"), "-C", str(sources), "build", "-mod=readonly", "-o", str(folder / "consume"), "."])

    return Peer([str(_made("go", inputs, build) / "consume")], {"GOMAXPROCS": "1"})


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/local/go/bin")
    if path is None:
        raise BenchError(f"`{name}` isn't installed")
    return path


def _made(name: str, inputs: Sequence[Path], fill: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled once for each state of the inputs. It appears under its name only when complete."""
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    folder, partial = CACHE / f"{name}-{state}", CACHE / f"{name}.partial"
    if not folder.exists():
        sys.stderr.write(f"setting up the {name} peer …\n")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fill(partial)
        partial.rename(folder)
    return folder


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(  # noqa: S603 - the programs are named above
            command, check=True, timeout=_SET_UP_SECONDS, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{' '.join(command)}:\n{error.stdout}{error.stderr}") from error
