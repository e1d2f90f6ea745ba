"""What the figures were measured on, and with which versions."""

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("rocketmq-bridge", "aiohttp", "aiokafka", "confluent-kafka", "lxml", "orjson", "uvloop")
_PROGRAMS = {"Go": ["go", "version"], "Java": ["java", "-version"], "Node.js": ["node", "--version"]}


def describe(load_before: float) -> Mapping[str, str]:
    """By name. `load_before` is the load average before the bench began: near 0 when the machine was its own."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return {
        "processor": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "load average before": f"{load_before:.2f}",
        "Python": f"{platform.python_version()}; {packages}",
        "a loop of plain Python": f"{_loop_seconds():.2f} s of CPU time",
        **{name: text for name, command in _PROGRAMS.items() if (text := _first_line(command))},
    }


def _loop_seconds() -> float:
    """How fast the interpreter is on this machine: one that was built without optimisations takes up to 40 % more."""
    begun, total, last = time.process_time(), 0, {}
    for number in range(3_000_000):
        total += number
        last[number & 255] = (total, number)
    return time.process_time() - begun


def _first_line(command: list[str]) -> str | None:
    path = shutil.which(command[0]) or shutil.which(command[0], path="/usr/local/go/bin")
    if path is None:
        return None
    run = subprocess.run([path, *command[1:]], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - see above
    return (run.stdout + run.stderr).splitlines()[0]
