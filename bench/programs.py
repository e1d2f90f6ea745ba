"""Programs that run beside each other: those under test on a core of their own, what they talk to on the other."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TESTED_CORE, OTHER_CORE = 0, 1
"""The tested program has the first alone; source, broker, receiver and the bench itself share the second."""
FINISH_SECONDS = 10.0
"""How long a service may take to end once its stdin has."""

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
LOGS = CACHE / "logs"
"""What each program writes to stderr, one file a program, overwritten by the next run."""


class BenchError(Exception):
    """A measurement can't be made; the text says why."""


@dataclass(frozen=True)
class Program:
    """One program under test, in one process or several."""

    name: str
    processes: Sequence["subprocess.Popen[bytes]"]
    started_at: float
    """In seconds of the monotonic clock, just before the first was started."""

    def cpu_seconds(self) -> float:
        """User and system time of all its threads since it was started, living and dead."""
        return sum(cpu_seconds(process.pid) for process in self.processes)

    def resident_bytes(self) -> int:
        """What is in memory now, of all processes together."""
        return sum(_status_bytes(process.pid, "VmRSS") for process in self.processes)

    def peak_bytes(self) -> int:
        """What was resident at most so far."""
        return sum(_status_bytes(process.pid, "VmHWM") for process in self.processes)

    def check(self) -> None:
        """Raise BenchError when it has ended by itself."""
        for process in self.processes:
            if process.poll() is not None:
                raise BenchError(f"{self.name} ended with {process.returncode}:\n{self.log()[-2000:]}")

    def log(self) -> str:
        """What it has written to stderr."""
        return (LOGS / f"{self.name}.log").read_text(errors="replace")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process of this user, all threads."""
    # Linux makes the number of a process's CPU clock from its id: clock_getcpuclockid(3), which Python hasn't got.
    return time.clock_gettime((~pid << 3) | 2)


def _status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"process {pid} has ended")


def settle_on_the_other_core() -> None:
    """Leave the tested core to the tested program. What is started from here on inherits that, unless it says otherwise."""
    if not {TESTED_CORE, OTHER_CORE} <= os.sched_getaffinity(0) or not shutil.which("taskset"):
        raise BenchError("it needs two cores, 0 and 1, and `taskset`, which is part of util-linux")
    os.sched_setaffinity(0, {OTHER_CORE})
    LOGS.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] = (TESTED_CORE,),
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[Program]:
    """Run a command while the block lasts; once on each of the cores."""
    environment = {**_environment(), **(environment or {})}
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context((LOGS / f"{name}.log").open("wb"))
        started_at = time.monotonic()
        processes = [
            stack.enter_context(_process(["taskset", "--cpu-list", str(core), *command], environment, stdout, errors))
            for core in cores
        ]
        yield Program(name, processes, started_at)


@contextlib.contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], stdout: int | IO[bytes], errors: IO[bytes]
) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(  # noqa: S603 - the bench starts what it measures
        command, env=environment, cwd=CACHE, stdin=subprocess.PIPE, stdout=stdout, stderr=errors
    )
    try:
        yield process
    finally:
        process.kill()  # a bridge that is asked to end would first wait for its poll to come back
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.wait()


@dataclass
class Service:
    """A module of the bench, serving on the other core until its stdin ends (`bench.serving`)."""

    pid: int
    port: int
    _process: "subprocess.Popen[bytes]"

    def finish(self) -> str:
        """End it; what it says in the end."""
        said, _ = self._process.communicate(timeout=FINISH_SECONDS)
        return said.decode()


@contextlib.contextmanager
def service(name: str, *arguments: str) -> Iterator[Service]:
    """Run the module `bench.<name>` while the block lasts."""
    command = [sys.executable, "-m", f"bench.{name}", *arguments]
    with running(name, command, cores=[OTHER_CORE], stdout=subprocess.PIPE) as program:
        (process,) = program.processes
        assert process.stdout
        if not (line := process.stdout.readline()):
            process.wait(FINISH_SECONDS)
            program.check()
        yield Service(process.pid, int(line), process)


def _environment() -> dict[str, str]:
    """Ours, without what would change the bridge's settings; and with the bench's own modules within reach."""
    changing = ("BRIDGE_", "OTEL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(changing)}
    root = CACHE.parents[1]
    return inherited | {"PYTHONPATH": os.pathsep.join([str(root), str(CACHE / "sinks")])}
