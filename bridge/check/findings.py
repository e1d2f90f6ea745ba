"""What is found: one answer to each question, and how it is told."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from enum import Enum

import orjson

from bridge.errors import BridgeError

LOOK_SECONDS = 10.0
"""How long one look may take."""


class Status(Enum):
    """How it is."""

    OK = "ok"
    WRONG = "wrong"
    """It doesn't work as it is."""
    UNKNOWN = "unknown"
    """It could not be found out."""
    SKIPPED = "skipped"
    """It isn't asked for by the settings."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `name` is stable; `text` is for people, and says of what is wrong what to do about it."""

    name: str
    status: Status
    text: str


async def found(name: str, look: Awaitable[str], *, setting: str, seconds: float = LOOK_SECONDS) -> Finding:
    """What a look finds: the text that it returns when all is well, or why it isn't. Raises nothing.

    `setting` is what to see to when there is no answer; what a look raises says it by itself.
    """
    try:
        async with asyncio.timeout(seconds):
            return Finding(name, Status.OK, await look)
    except TimeoutError:
        return Finding(name, Status.WRONG, f"no answer within {seconds:g} s; see to {setting}")
    except BridgeError as problem:
        return Finding(name, Status.WRONG, str(problem))
    except Exception as problem:  # noqa: BLE001 - the mistake of a plugin, or ours, leaves the other questions answered
        return Finding(name, Status.WRONG, f"{type(problem).__name__}: {problem}; this is a mistake in the code: report it")


def as_text(findings: Iterable[Finding]) -> str:
    """An aligned line for each."""
    findings = list(findings)
    width = max(len(finding.name) for finding in findings)
    lines = [f"{finding.status.value:7}  {finding.name:{width}}  {' '.join(finding.text.split())}" for finding in findings]
    return "\n".join(lines)


def as_json(findings: Iterable[Finding]) -> str:
    """One document: `ok` tells that nothing is wrong; `checks` are the findings in their order."""
    findings = list(findings)
    checks = [{"name": finding.name, "status": finding.status, "text": finding.text} for finding in findings]
    return orjson.dumps({"ok": not any_wrong(findings), "checks": checks}, option=orjson.OPT_INDENT_2).decode()


def any_wrong(findings: Iterable[Finding]) -> bool:
    """Whether there is something to mend."""
    return any(finding.status is Status.WRONG for finding in findings)
