"""What the sinks have confirmed and the broker has not yet let us ack (design.md, promise 2)."""

from collections import OrderedDict

MAX_ENTRIES = 100_000
"""Some 15 MB; the oldest are forgotten first."""

_EVERYBODY = "*"  # no sink has this name: entry points are named by words


class Ledger:
    """Messages that some sinks, or all, need not be sent when they come again. It knows what this process has seen."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._sinks: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._max_entries = max_entries

    def __contains__(self, message_id: str) -> bool:
        """Whether every sink has confirmed it, so that it only wants its ack."""
        return message_id in self._sinks and _EVERYBODY in self._sinks[message_id]

    def has(self, message_id: str, sink: str) -> bool:
        """Whether that sink has confirmed it, or been given up for it."""
        return message_id in self._sinks and sink in self._sinks[message_id]

    def remember(self, message_id: str, *sinks: str) -> None:
        """Those sinks have confirmed it; every sink has, when none is named."""
        self._sinks[message_id] = (*self._sinks.get(message_id, ()), *sinks) if sinks else (_EVERYBODY,)
        self._sinks.move_to_end(message_id)
        if len(self._sinks) > self._max_entries:
            self._sinks.popitem(last=False)

    def forget(self, message_id: str) -> None:
        """Its ack was accepted: it won't come again."""
        self._sinks.pop(message_id, None)
