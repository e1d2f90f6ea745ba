"""Java archives by their Maven coordinates: fetched once into a folder, and checked against the SHA-256 in a list.

A list is a text file with one `group:artifact:version sha256:hex` a line; blank lines and lines that begin with `#` are
skipped. It names every jar, the transitive ones too: nothing is resolved, so nothing changes by itself.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from maven_artifact import Artifact, Downloader  # type: ignore[import-untyped]  # ships no type information

_TIMEOUT_SECONDS = 60
_CHUNK_BYTES = 1 << 16
_DOWNLOADS_AT_ONCE = 4
_ATTEMPTS = 3
_PAUSE_SECONDS = 2.0


class JarUnavailableError(Exception):
    """A jar could not be fetched, or isn't the one that the list means."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of a list."""

    coordinates: str
    """As Maven writes them: `group:artifact:version`."""
    sha256: str
    """Of the file, in lower-case hexadecimal."""

    @property
    def filename(self) -> str:
        """`artifact-version.jar`, as a Maven repository names it."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


def read_jar_list(listing: Path) -> list[Jar]:
    """Read a list of jars; a line of another shape raises ValueError."""
    jars = []
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        coordinates, _, checksum = line.partition(" sha256:")
        if coordinates.count(":") != 2 or len(checksum) != 64:
            raise ValueError(f"{listing}, line {number}: not `group:artifact:version sha256:hex`")
        jars.append(Jar(coordinates, checksum))
    return jars


def fetch_jars(listing: Path, folder: Path) -> list[Path]:
    """Make sure that every jar of the list is in the folder, and return their paths in the list's order.

    What is there already is checked, and not fetched again. Processes that do this at the same time wait for each other, and
    a jar appears under its name only when it is whole and right. Raises JarUnavailableError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder), ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        return list(pool.map(lambda jar: _ensure(jar, folder), read_jar_list(listing)))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _ensure(jar: Jar, folder: Path) -> Path:
    path = folder / jar.filename
    if path.exists() and _sha256(path) == jar.sha256:
        return path
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f"{jar.filename}.")
    os.close(descriptor)
    partial = Path(name)
    try:
        _download_patiently(jar, partial)
        if (found := _sha256(partial)) != jar.sha256:
            raise JarUnavailableError(f"{jar.coordinates}: its SHA-256 is {found}, and the list says {jar.sha256}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _download_patiently(jar: Jar, path: Path) -> None:
    """A repository that is asked for many jars at once refuses one now and then."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _download(jar, path)
        except JarUnavailableError:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _download(jar: Jar, path: Path) -> None:
    # Downloader.download waits without a bound and prints, so only its knowledge of repositories is used.
    downloader = Downloader()
    try:
        url = downloader.resolver.uri_for_artifact(Artifact.parse(jar.coordinates))
        with (
            downloader.requestor.request(url, None, stream=True, timeout=_TIMEOUT_SECONDS) as response,
            path.open("wb") as file,
        ):
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
    except OSError as error:  # every exception of `requests` is one
        raise JarUnavailableError(f"{jar.coordinates}: fetching it: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
