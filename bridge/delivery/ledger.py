"""What the sinks have confirmed and the broker has not yet let us ack (design.md, promise 2).

A sink stands in an entry when it has confirmed the message, and also when a dead letter about it was confirmed in its place:
either way nothing is left to do for that sink. Entries name sinks, and never say "all of them", so that a bridge which is
started again with one sink more delivers to that one.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from bridge.delivery.shared_ledger import SharedLedger

MAX_ENTRIES = 100_000
"""Some 15 MB; the oldest are forgotten first."""


class Ledger:
    """Messages that some of the sinks, or all, need not be sent when they come again.

    It is asked for every message, and knows what this process has seen. Where it is shared with other processes, they are told
    when something goes wrong, and asked about redeliveries alone.
    """

    def __init__(self, sinks: Iterable[str], shared: SharedLedger | None = None, max_entries: int = MAX_ENTRIES) -> None:
        self._all = frozenset(sinks)
        self._confirmed: OrderedDict[str, frozenset[str]] = OrderedDict()  # which sinks, by message id
        self._shared = shared
        self._max_entries = max_entries

    def __contains__(self, message_id: str) -> bool:
        """Whether every sink is done with it, so that it only wants its ack."""
        return self._confirmed.get(message_id) is self._all

    def has(self, message_id: str, sink: str) -> bool:
        """Whether that sink is done with it."""
        return sink in self._confirmed.get(message_id, ())

    def remember(self, message_id: str, *sinks: str) -> None:
        """Those sinks are done with it; every sink is, when none is named. When some are and others aren't, that is shared."""
        confirmed = self._all
        if sinks and not self._all <= (some := self._confirmed.get(message_id, frozenset()).union(sinks)):
            confirmed = some
        self._confirmed[message_id] = confirmed
        self._confirmed.move_to_end(message_id)
        if len(self._confirmed) > self._max_entries:
            self._confirmed.popitem(last=False)
        if confirmed is not self._all:
            self.share(message_id)

    def share(self, *message_ids: str) -> None:
        """Their acks are in doubt, so another process may be given them: let it know what is remembered of them."""
        if self._shared:
            for message_id in message_ids:
                if confirmed := self._confirmed.get(message_id):
                    self._shared.write(message_id, confirmed)

    def forget(self, message_id: str) -> None:
        """Its ack was accepted: it won't come again."""
        self._confirmed.pop(message_id, None)
        if self._shared:
            self._shared.clear(message_id)

    async def recall(self, message_ids: Sequence[str], *, seconds: float) -> None:
        """Before redeliveries are looked at: learn what other processes, or an earlier one, know of them.

        That takes one question, for so many seconds at most. Raises nothing: without an answer the messages are delivered.
        """
        unknown = [message_id for message_id in message_ids if message_id not in self]
        if self._shared and unknown:
            for message_id, confirmed in (await self._shared.read(unknown, seconds=seconds)).items():
                self.remember(message_id, *confirmed)

    def open(self) -> None:
        """Find out whether what is shared is within reach; nobody waits for that."""
        if self._shared:
            self._shared.open()

    async def close(self, seconds: float) -> None:
        """Leave everything that is confirmed and not acked to those who come after, within so many seconds."""
        if self._shared:
            self.share(*self._confirmed)
            await self._shared.close(seconds)
