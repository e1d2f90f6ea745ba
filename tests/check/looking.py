"""`bridge check` in this process, and what it finds by name."""

from pathlib import Path

from bridge.check import check
from bridge.check.findings import Finding, Status
from bridge.emulator.server import Emulator
from bridge.loading import load
from bridge.settings import RunSettings
from outside.command import GROUP, TOPIC, settings_for
from server_process import free_port

__all__ = ["GROUP", "TOPIC", "closed_port", "looked", "statuses"]


async def looked(emulator: Emulator, folder: Path, **changes: str) -> dict[str, Finding]:
    """The findings by name; `changes` are settings by what follows `BRIDGE_`, in lower case."""
    environ = settings_for(emulator) | {f"BRIDGE_{name}".upper(): text for name, text in changes.items()}
    findings = await check(load(RunSettings, environ=environ, folder=folder).settings)
    found = {finding.name: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    """What isn't ok, leaving out what nobody asked for."""
    return {name: one.status.value for name, one in found.items() if one.status not in (Status.OK, Status.SKIPPED)}


def closed_port() -> int:
    """One that nobody listens on."""
    return free_port()
