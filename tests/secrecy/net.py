"""A net for secrets: told what is one, it looks for each of them in what is given out."""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_plus, urlsplit

FEWEST_LETTERS = 6
"""Letters and digits: what is shorter stands in many a text by chance."""


@dataclass(frozen=True)
class Secret:
    """Only its name is ever shown."""

    name: Callable[[], str]
    """Called when it is found, and no sooner."""
    stands_in: Callable[[str], object]
    """Whether a text holds it."""


class Net:
    """What is secret in the running test, and where it was given out all the same."""

    def __init__(self) -> None:
        self.leaks: set[str] = set()
        """Each as `<the secret's name>, <channel>`."""
        self._secrets: dict[str, Secret] = {}
        self._ends: defaultdict[object, str] = defaultdict(str)

    def begin(self) -> None:
        """Another test begins, with other secrets."""
        self.leaks = set()
        self._secrets.clear()
        self._ends.clear()

    def is_told(self, value: str, name: Callable[[], str]) -> None:
        """From now on this is a secret; of header lines and of a list of keys, each part, too; of a URL, its parts alone."""
        for part in set(_parts(value)):
            if sum(map(str.isalnum, part)) >= FEWEST_LETTERS and part not in self._secrets:
                self._secrets[part] = Secret(name, _search(part))

    def look(self, channel: str, given_out: str | bytes) -> None:
        """Look at a whole text."""
        text = given_out if isinstance(given_out, str) else given_out.decode(errors="replace")
        secrets = list(self._secrets.values())  # other threads may tell of more meanwhile
        for view in _views(text):
            self.leaks |= {f"{secret.name()}, {channel}" for secret in secrets if secret.stands_in(view)}

    def look_at_more(self, channel: str, stream: object, given_out: bytes) -> None:
        """Look at a piece of a stream: a secret may begin in one and end in the next."""
        text = self._ends[stream] + given_out.decode(errors="replace")
        self.look(channel, text)
        longest = max(map(len, self._secrets), default=0)
        self._ends[stream] = text[-3 * longest :]  # percent-encoded, it is three times as long


def _parts(value: str) -> Iterator[str]:
    if re.match(r"\w+://", value):
        url = urlsplit(value)
        yield unquote_plus(url.password or "")
        yield from (text for _, text in parse_qsl(url.query))
        return
    yield value
    yield from (line.partition(": ")[2] for line in value.splitlines())
    for word in re.split(r"[\s,]+", value):
        if word.startswith("whsec_"):
            yield word.removeprefix("whsec_")


def _search(value: str) -> Callable[[str], object]:
    # The emulator's well-known SECRET is a word that settings' names end with.
    plain = re.compile(rf"(?<![\w-]){value}(?![\w-])").search if value.isalpha() else lambda text: value in text
    encoded = set(_base64_forms(value.encode()))
    return lambda text: plain(text) or any(form in text for form in encoded)


def _base64_forms(value: bytes) -> Iterator[str]:
    """The characters that stand for it alone in the Base64 of a longer text, by how many bytes before it a group has."""
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(value)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + value).decode()[first:end]


def _views(text: str) -> Iterator[str]:
    """The text, and what it says to whom undoes the escapes of URLs, HTML and XML, JSON and Python."""
    yield text
    if "%" in text:
        yield unquote_plus(text)
    if "&" in text:
        yield html.unescape(text)
    if "\\" in text:
        unescaped = re.sub(r'(?:\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))+', lambda run: str(json.loads(f'"{run[0]}"')), text)
        yield unescaped.replace("\\'", "'")
