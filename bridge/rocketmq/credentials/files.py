"""Credentials in files of the secrets folder, which somebody replaces while the bridge runs."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.environment import MAX_SECRET_BYTES
from bridge.errors import TryAgainError
from bridge.rocketmq.credentials import Credentials

_TOKEN = "security_token"  # noqa: S105 - the name of a field


class KeyFiles:
    """Files that hold fields of `given`, the credentials that were read from them at first; `paths` is by a field's name.

    A field without a file stays as it is. But where id and secret come from one folder and there is no token, a token may
    appear there.

    Files are replaced one by one, or, as Kubernetes does it, all of them between two of our reads. So new values are taken
    when two looks in a row have seen them and no file holds what it held before: a new key has a new secret, and a new token.
    An old id is never used with a new secret, nor a value that is half written. Only when the service refuses the credentials
    in force is whatever there is taken as it is, for somebody may have mended a single file.
    """

    period = 2.0

    def __init__(self, paths: Mapping[str, Path], given: Credentials) -> None:
        self._paths = dict(paths)
        self._in_force = given
        self._last_seen: Credentials | str = given
        key, secret = paths.get("access_key_id"), paths.get("access_key_secret")
        if key and secret and key.parent == secret.parent and not given.security_token:
            name = "BRIDGE_ROCKETMQ__SECURITY_TOKEN"
            self._paths[_TOKEN] = key.with_name(name if key.name.isupper() else name.lower())

    def look(self, *, refused: bool) -> Credentials:
        """See `Place.look`. Raises TryAgainError for files that can't be read, or that don't belong together."""
        seen = self._read()
        settled, self._last_seen = seen == self._last_seen, seen
        if isinstance(seen, Credentials) and (refused or (settled and not self._as_before(seen))):
            self._in_force = seen
        elif settled and seen != self._in_force:
            trouble = f"not all files have changed: {self._as_before(seen)}" if isinstance(seen, Credentials) else seen
            raise TryAgainError(f"the key's files: {trouble}; the credentials stay as they were")
        return self._in_force

    def _as_before(self, seen: Credentials) -> str:
        """The files, if any, that still hold what they held."""
        held = {field: getattr(self._in_force, field) for field in self._paths}
        same = [str(self._paths[field]) for field, text in held.items() if text and text == getattr(seen, field)]
        return f"{' and '.join(same)} as before" if same else ""

    def _read(self) -> Credentials | str:
        """What the files hold now, or what is wrong with one of them."""
        values: dict[str, Any] = {}
        for field, path in self._paths.items():
            try:
                with path.open("rb") as file:
                    text = file.read(MAX_SECRET_BYTES).decode(errors="replace").strip()
            except OSError as problem:
                if field != _TOKEN or not isinstance(problem, FileNotFoundError):
                    return f"reading {str(path)!r}: {problem.strerror}"
                text = None
            if text == "" and field == _TOKEN and not self._in_force.security_token:
                text = None
            if text is not None and not re.fullmatch(r"[!-~]+", text):
                return f"{str(path)!r} doesn't hold one word of visible ASCII characters"
            values[field] = text
        return replace(self._in_force, **values)
