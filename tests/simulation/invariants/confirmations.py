"""What each process was told to be confirmed."""

from collections import defaultdict

from simulation import story
from simulation.plan import DEAD_LETTERS, Message, Plan
from simulation.story import Letter


class Confirmations:
    """What each process was told to be confirmed, and by whom."""

    def __init__(self, plan: Plan) -> None:
        self._sinks = frozenset(plan.sinks)
        self._confirmed: dict[tuple[str, Message], set[str]] = defaultdict(set)
        self._letters: dict[int, Letter] = {}

    def on_sent(self, _: float, entry: story.Sent) -> str | None:
        for letter in entry.letters:
            if letter is not None:
                self._letters[entry.call] = letter
        return None

    def on_told(self, _: float, entry: story.Told) -> None:
        who = entry.life, entry.delivered.message
        if entry.outcome == "confirmed" and entry.sink != DEAD_LETTERS:
            self._confirmed[who].add(entry.sink)
        elif entry.outcome == "confirmed":
            # the letter of one that was refused stands in for those that refused it, any other for all
            letter = self._letters[entry.call]
            self._confirmed[who] |= self._sinks.intersection(letter.sinks) if letter.reason == "refused" else self._sinks

    def on_recalled(self, _: float, entry: story.Recalled) -> None:
        self._confirmed[entry.life, entry.message] |= self._sinks.intersection(entry.sinks)

    def _missing(self, life: str, message: Message) -> frozenset[str]:
        return self._sinks - self._confirmed[life, message]
