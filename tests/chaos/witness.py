"""Who watches the broker: when it handed out a message, and when it took an ack."""

import time
from collections.abc import Collection, Sequence
from typing import Any

from bridge.emulator.server import Emulator
from bridge.emulator.stored import AckFailure
from bridge.rocketmq.message import Message
from chaos.journal import Journal


def witness(emulator: Emulator, journal: Journal) -> None:
    """Have the journal note what the emulator's broker hands out and takes; the emulator itself keeps no times."""
    broker = emulator.broker
    consume, give_back, ack = broker.consume, broker.give_back, broker.ack

    def consume_and_note(now: int, topic: str, group: str, **more: Any) -> list[Message]:
        messages = consume(now, topic, group, **more)
        for message in messages:
            journal.delivered[message.message_id].append(time.time())
        return messages

    def give_back_and_note(now: int, topic: str, group: str | None, messages: Sequence[Message], **more: Any) -> None:
        for message in messages:
            journal.delivered[message.message_id].pop()
        give_back(now, topic, group, messages, **more)

    def ack_and_note(now: int, topic: str, group: str, handles: Collection[str], **more: Any) -> list[AckFailure]:
        at = time.time()
        failures = ack(now, topic, group, handles, **more)
        for failure in failures:
            again = failure.receipt_handle.partition("-")[0] in journal.acked
            journal.refused_acks[f"{failure.code}, {'acked before' if again else 'the lease is over'}"] += 1
        for handle in set(handles) - {failure.receipt_handle for failure in failures}:
            journal.acked[handle.partition("-")[0]] = at
        return failures

    # the methods of this one instance are replaced
    broker.consume = consume_and_note  # type: ignore[method-assign]
    broker.give_back = give_back_and_note  # type: ignore[method-assign]
    broker.ack = ack_and_note  # type: ignore[method-assign]
