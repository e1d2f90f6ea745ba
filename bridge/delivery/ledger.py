"""What a sink has confirmed and the broker has not yet let us ack (design.md, promise 2)."""

from collections import OrderedDict

MAX_ENTRIES = 100_000
"""Some 15 MB at most; the oldest are forgotten first."""


class Ledger:
    """Message ids that need only an ack when they come again. In memory, so it knows what this process has seen."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._max_entries = max_entries

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._ids

    def remember(self, message_id: str) -> None:
        """It was confirmed, and is not acked yet."""
        self._ids[message_id] = None
        self._ids.move_to_end(message_id)
        if len(self._ids) > self._max_entries:
            self._ids.popitem(last=False)

    def forget(self, message_id: str) -> None:
        """Its ack was accepted: it won't come again."""
        self._ids.pop(message_id, None)
