"""axe-core, which finds what keeps people from reading or operating a page: brought into `.cache/axe`, pinned by its hash."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.async_api import Page

_MANIFESTS = Path(__file__).with_name("axe")
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "axe"
_INSTALL_TIMEOUT_SECONDS = 120


class AxeMissingError(Exception):
    """axe-core can't be had on this machine; the text says what to install."""


def axe_source() -> str:
    """The script, installed if need be. Raises AxeMissingError."""
    lock = (_MANIFESTS / "package-lock.json").read_bytes()
    folder = _CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if not folder.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise AxeMissingError("`npm` isn't installed: install Node.js with npm")
        _install(npm, folder)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def _install(npm: str, folder: Path) -> None:
    """Install into a folder that appears under its name only when it is complete; another process may be first."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as partial:
        shutil.copytree(_MANIFESTS, partial, dirs_exist_ok=True)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=3"]
        command.append("--fetch-retry-mintimeout=1000")
        try:
            subprocess.run(command, cwd=partial, check=True, timeout=_INSTALL_TIMEOUT_SECONDS, capture_output=True)
        except subprocess.SubprocessError as problem:
            raise AxeMissingError("axe-core isn't within reach: `npm ci` must reach the npm registry") from problem
        with suppress(OSError):
            Path(partial).rename(folder)
        Path(partial).mkdir(exist_ok=True)  # for its owner to remove


class Axe:
    """Looks at a page with every rule that axe-core has."""

    def __init__(self, source: str) -> None:
        self._source = source

    async def complaints(self, page: Page) -> list[str]:
        """What is wrong with the page as it is now: none, if all is well."""
        if not await page.evaluate("typeof axe === 'object'"):
            await page.evaluate(self._source)
        found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return list(_told(found["violations"]))


def _told(violations: list[dict[str, Any]]) -> Iterator[str]:
    for violation in violations:
        for node in violation["nodes"]:
            yield f"{violation['id']}: {violation['help']}: {node['html'][:200]}: {node['failureSummary']}"
