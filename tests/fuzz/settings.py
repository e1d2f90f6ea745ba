"""Whatever somebody gave as settings, it is loaded, or every mistake is named and no secret shown."""

import atexit
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from dotenv import dotenv_values

from bridge import sinks
from bridge.environment import PREFIX, SECRETS_DIR
from bridge.errors import FixSettingsError
from bridge.loading import load
from bridge.settings import EmulatorSettings, PublishSettings, RunSettings
from bridge.variables import is_secret, settings_of

PARTS, ITEMS = b"\x1e", b"\x1f"
"""Between the parts: flags, the environment (`NAME=value`), the content of `.env`, files of secrets (`NAME=content`); and
between the items of a part."""
SECRET = "hunter2"
"""The word that stands for any secret."""
TOKENS = [
    *(PARTS, ITEMS, b"=", b"--", b".", b"__", b"\n", b'"', b"'", b"${HOME}", b"export ", b"#", b"\\n", b"\xff", b"\0"),
    *(b"1e999", b"9" * 400, b"nan", b"-1", b"true", b"99999999GiB", b"http://u:hunter2@h", b"https://[::1", b"hunter2"),
    *(b"kafka,webhook", b"stdout", b"BRIDGE_", b"BRIDGE_SECRETS_DIR=", b'{"a":' * 40, b"whsec_", b"::", b"/dev/zero"),
]


def _known() -> dict[str, bool]:
    """Everything that can be set, and whether it is a secret."""
    fields = {name: about for model in MODELS for name, about in settings_of(model).items()}
    for name in sinks.installed():
        model = sinks.find(name).Settings
        fields |= settings_of(model, f"{PREFIX}{name.upper()}__") | settings_of(model, f"{PREFIX}DEAD_LETTER__{name.upper()}__")
    return {SECRETS_DIR: False, **{name: is_secret(about) for name, about in fields.items()}}


INSTALLED = sinks.installed()
MODELS = (RunSettings, EmulatorSettings, PublishSettings)
KNOWN = _known()


@cache
def folder() -> Path:
    """The working directory, with a folder of secrets in it."""
    temporary = TemporaryDirectory(prefix="bridge-fuzz-")
    atexit.register(temporary.cleanup)
    (Path(temporary.name) / "secrets").mkdir()
    return Path(temporary.name)


def settings(given: bytes) -> None:
    """Flags, an environment, a `.env` and files of secrets."""
    flags_part, environ_part, dotenv, secrets_part = [*given.split(PARTS), b"", b"", b""][:4]
    flags = [_text(item) for item in flags_part.split(ITEMS) if item]
    environ = {SECRETS_DIR: str(folder() / "secrets"), **dict(_pairs(environ_part))}
    (folder() / ".env").write_bytes(dotenv)
    files = [_write(name, content) for name, content in _pairs(secrets_part)]
    try:
        hidden = _must_not_be_shown(flags, environ, secrets_part)
        for model in MODELS:
            said = _mistakes(model, flags, environ)
            assert said is None or said.strip()
            assert not (said and hidden and SECRET in said)
    finally:
        for file in filter(None, files):
            file.unlink(missing_ok=True)


def _mistakes(
    model: type[RunSettings | EmulatorSettings | PublishSettings], flags: list[str], environ: dict[str, str]
) -> str | None:
    try:
        with patch.object(sinks, "installed", return_value=INSTALLED):  # it would read hundreds of files each time
            load(model, flags, environ=environ, folder=folder())
    except FixSettingsError as problem:
        return str(problem)
    return None


def _text(item: bytes) -> str:
    return item.decode("utf-8", "surrogateescape").replace("\0", "")


def _pairs(part: bytes) -> Iterator[tuple[str, str]]:
    for item in part.split(ITEMS):
        name, equals, value = _text(item).partition("=")
        if equals and name:
            yield name, value


def _write(name: str, content: str) -> Path | None:
    file = folder() / "secrets" / name.replace("/", "_")
    try:
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
    except OSError:  # no name that a file could have
        return None
    return file


def _must_not_be_shown(flags: list[str], environ: dict[str, str], secrets_part: bytes) -> bool:
    """Whether the secret stands only where it is one, or may be one: not in a name, nor in a setting that is known as none."""
    pairs = [*environ.items(), *_pairs(secrets_part)]
    with suppress(UnicodeDecodeError):
        pairs += [(name, value or "") for name, value in dotenv_values(folder() / ".env", interpolate=False).items()]
    before = ""
    for flag in flags:
        name, equals, value = flag.partition("=")
        if flag.startswith("-"):
            pairs.append((_variable(name), value))
        pairs.append((before, flag))  # whatever it looks like, it may be the value of the one before
        before = "" if equals else _variable(name)
    return not any(
        SECRET in name.casefold() or (SECRET in value and not KNOWN.get(name.upper(), True)) for name, value in pairs
    )


def _variable(flag: str) -> str:
    return PREFIX + flag.removeprefix("--").replace("-", "_").replace(".", "__").upper()
