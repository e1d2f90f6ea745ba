"""What somebody gave: the only reader of the environment, of `.env`, of secrets' files, and of the proxy variables."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dotenv import dotenv_values
from yarl import URL

from bridge.errors import FixSettingsError

PREFIX = "BRIDGE_"
SECRETS_DIR = "BRIDGE_SECRETS_DIR"
DEFAULT_SECRETS_DIR = Path("/run/secrets")
MAX_SECRET_BYTES = 65_536
"""Of a secret's file: a certificate chain fits."""

IsBoolean = Callable[[str], bool | None]
"""Tells of a variable's name whether it is a boolean setting; None when it is no setting that is known."""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as somebody gave it."""

    text: str = field(repr=False)  # it may be a secret
    given_by: str
    """`the flag --rocketmq.topic`, `the environment`, `.env`, a file's path, or the name of a command that has its own way."""
    bare: bool = False
    """Whether it is a flag without a value, which only a boolean can be."""

    def as_that_of(self, name: str) -> "Value":
        """The same, for a setting that takes it over from another one, of that name."""
        return replace(self, given_by=f"{name}, {self.given_by}")


def given(
    flags: Sequence[str],
    is_boolean: IsBoolean,
    mistakes: list[str],
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> dict[str, Value]:
    """Everything that was given, by variable name, each from the source that wins; what can't be read becomes a mistake."""
    values = _from_dotenv((folder or Path.cwd()) / ".env", mistakes)
    values |= {
        name.upper(): Value(text, "the environment")
        for name, text in (os.environ if environ is None else environ).items()
        if text
    }
    values |= _from_flags(flags, is_boolean, mistakes)
    chosen = values.pop(SECRETS_DIR, None)
    secrets = _from_secrets(Path(chosen.text) if chosen else DEFAULT_SECRETS_DIR, mistakes, must_exist=chosen is not None)
    return {name: value for name, value in {**secrets, **values}.items() if name.startswith(PREFIX)}


def split_flags(arguments: Sequence[str], is_boolean: IsBoolean) -> tuple[list[str], list[str]]:
    """Part a command line into the flags that are settings, each as `--name=value` or a bare `--name`, and all the rest.

    A setting takes the argument that follows as its value; a boolean only when that isn't a flag itself. After `--` nothing is
    a setting.
    """
    flags: list[str] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            others += [argument, *rest]
            break
        name, equals, _ = argument.removeprefix("--").partition("=")
        boolean = is_boolean(_variable(name))
        ours = boolean is not None or "." in name or "__" in name or _variable(name) == SECRETS_DIR
        if not (argument.startswith("--") and ours):
            others.append(argument)
            continue
        if not equals and rest and not (rest[0].startswith("--") and (boolean is None or boolean)):
            argument = f"{argument}={rest.pop(0)}"
        flags.append(argument)
    return flags, others


def _variable(flag: str) -> str:
    return PREFIX + flag.replace("-", "_").replace(".", "__").upper()


def _from_flags(arguments: Sequence[str], is_boolean: IsBoolean, mistakes: list[str]) -> dict[str, Value]:
    flags, others = split_flags(arguments, is_boolean)
    values: dict[str, Value] = {}
    for flag in flags:
        name, equals, text = flag.removeprefix("--").partition("=")
        if text or not equals:
            values[_variable(name)] = Value(text or "true", f"the flag --{name}", bare=not equals)
    # What isn't understood may be a secret, or stand beside one, so no more of it is repeated than a flag's name.
    unknown = [argument.partition("=")[0] for argument in others if argument.startswith("-") and argument != "--"]
    for flag in unknown:
        if flag.startswith("--"):
            values[_variable(flag.removeprefix("--"))] = Value("true", f"the flag {flag}")
        else:
            mistakes.append(f"{flag} is no flag; {_FLAGS}")
    if others and not unknown:
        mistakes.append(f"a word on the command line belongs to no flag; {_FLAGS}, in quotation marks where there are spaces")
    return values


_FLAGS = "settings are given as --rocketmq.topic=NAME (see --help)"


def _from_dotenv(path: Path, mistakes: list[str]) -> dict[str, Value]:
    try:
        if not path.is_file():
            return {}
        given = dotenv_values(path, interpolate=False)
    except OSError as problem:
        mistakes.append(f"reading .env: {problem.strerror}")
    except UnicodeDecodeError:
        mistakes.append("reading .env: it is no text in UTF-8")
    else:
        return {name.upper(): Value(text, ".env") for name, text in given.items() if text}
    return {}


def _from_secrets(folder: Path, mistakes: list[str], *, must_exist: bool) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for path in _secret_files(folder, mistakes, must_exist=must_exist):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_SECRET_BYTES + 1)
            if len(content) > MAX_SECRET_BYTES:
                mistakes.append(f"{path.name.upper()}: the file {str(path)!r} is larger than {MAX_SECRET_BYTES:,} bytes")
            elif text := content.decode().strip():
                values[path.name.upper()] = Value(text, str(path))
        except OSError as problem:
            mistakes.append(f"{path.name.upper()}: reading the file {str(path)!r}: {problem.strerror}")
        except UnicodeDecodeError:
            mistakes.append(f"{path.name.upper()}: the file {str(path)!r} is no text in UTF-8")
    return values


def _secret_files(folder: Path, mistakes: list[str], *, must_exist: bool) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.upper().startswith(PREFIX) and path.is_file())
    except FileNotFoundError:
        if must_exist:
            mistakes.append(f"{SECRETS_DIR}: there is no folder {str(folder)!r}")
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        mistakes.append(f"{SECRETS_DIR}: reading the folder {str(folder)!r}: {getattr(problem, 'strerror', problem)}")
    return []


def without_credentials(text: str) -> str:
    """A value fit to be shown: a URL loses its user information and its query, and nothing is longer than 200 characters.

    Where it isn't clear how far the user information goes, as with an @ or a / in a password that should have been escaped,
    rather too much is taken away than too little.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    start = scheme.end() if scheme else 0
    user, at, place = text[start:].rpartition("@")
    if at and (scheme or ":" in user):
        text = text[:start] + "…@" + ("…" if re.search("[?#]", user) else place)
    if at or "://" in text:
        text = re.sub(r"(?s)[?#].*", "?…", text)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - one line of a log


def proxy_for(url: str) -> str | None:
    """The proxy that the usual variables (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) name for a URL, if any; none for loopback.

    Raises FixSettingsError for one that doesn't speak HTTP, or whose URL can't be read.
    """
    parts = urlsplit(url)
    if _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy is None:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    variable, shown = f"{parts.scheme.upper()}_PROXY", without_credentials(proxy)
    try:
        parsed = URL(proxy)
        f"{parsed.user}{parsed.password}".encode("latin1")  # beyond it aiohttp sends no password
    except ValueError:  # whose text may show the password
        raise FixSettingsError(
            f"{variable}: {shown!r} can't be read: it should be http://host:port, or http://user:password@host:port with "
            "characters of Latin-1, and with / : @ and % in the password as %2F, %3A, %40 and %25"
        ) from None
    if parsed.scheme not in ("http", "https") or parsed.host is None:
        raise FixSettingsError(f"{variable}: {shown!r} is no http:// or https:// proxy")
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
