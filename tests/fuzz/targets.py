"""What is fuzzed. Another reader of what comes from outside is another line here, and a folder of inputs in `corpus/`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz import answers, dates, events, management, properties, settings
from fuzz.watch import watched

CORPUS = Path(__file__).parent / "corpus"
"""For each target a folder of inputs: examples to begin with, and each input that was once a finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader, and what must hold of it for any input."""

    check: Callable[[bytes], None]
    """Raises AssertionError, or whatever the reader raised in place of what it may raise."""
    tokens: Sequence[bytes]
    """Words of the language, for inputs that get further than noise."""
    max_bytes: int = 4096
    """The longest input that is tried."""
    grown: Callable[[bytes], bytes] = lambda data: data
    """What `check` is given, where it isn't the input itself."""
    folder: Callable[[], Path | None] = lambda: None
    """The only place where files may be opened."""

    def run(self, data: bytes) -> None:
        """One input, its time, its memory and what it touches included. Raises whatever is a finding."""
        watched(self.check, self.grown(data), folder=self.folder())


TARGETS = {
    "poll": Target(check=answers.poll, tokens=answers.TOKENS),
    "neighbours": Target(check=answers.neighbours, tokens=answers.TOKENS),
    "ack": Target(check=answers.ack, tokens=answers.TOKENS),
    "publish": Target(check=answers.publish, tokens=answers.TOKENS),
    "growth": Target(check=answers.growth, tokens=[b"\x1e", *answers.TOKENS], max_bytes=512, grown=answers.grown),
    "properties": Target(check=properties.properties, tokens=properties.TOKENS),
    "event": Target(check=events.event, tokens=events.TOKENS),
    "roundtrip": Target(check=events.roundtrip, tokens=events.TOKENS),
    "date": Target(check=dates.date, tokens=dates.TOKENS, max_bytes=256),
    "management": Target(check=management.management, tokens=management.TOKENS),
    "settings": Target(check=settings.settings, tokens=settings.TOKENS, max_bytes=1536, folder=settings.folder),
}
