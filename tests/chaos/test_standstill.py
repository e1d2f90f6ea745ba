"""A process that stood still for longer than a lease (design.md, promises 2 and 3)."""

import asyncio
import signal
import time
from collections import Counter

from aiohttp import web

from acceptance.processes import until
from chaos.journal import Place
from chaos.kafka_topics import copies
from chaos.stage import Terms, staged
from kafka.broker import Broker
from webhook.receiver import Received

LEASE_SECONDS = 2.0
MESSAGES = 200
WEBHOOKS_AT_ONCE = 16


async def test_what_was_handed_over_before_two_leases_of_standstill_is_followed_and_nothing_is_written_twice_or_acked_late(
    kafka: Broker,
) -> None:
    terms = Terms(wires=False, replicas=1, lease_seconds=LEASE_SECONDS)
    may_answer = asyncio.Event()
    async with staged(terms, kafka, None, lambda _: None) as stage:
        journal, (replica,) = stage.journal, stage.replicas

        async def take_and_answer_late(received: Received) -> web.Response:
            taken = stage.take(received)
            await may_answer.wait()
            return taken

        stage.publish(Place("shard", 0))  # until it is acked, the sinks aren't known to work
        await until(lambda: journal.acked)
        stage.receiver.answer = take_and_answer_late
        with kafka.frozen():
            stage.publish(*(Place(f"shard-{number}", number) for number in range(1, MESSAGES)))
            await until(lambda: len(journal.delivered) > MESSAGES / 2 and len(journal.sinks["webhook"]) > WEBHOOKS_AT_ONCE)
            replica.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        may_answer.set()
        stage.receiver.answer = stage.answer
        await asyncio.sleep(stopped_at + 2 * LEASE_SECONDS - time.monotonic())
        replica.send_signal(signal.SIGCONT)
        await until(lambda: len(journal.acked) == MESSAGES)
        await until(replica.ask)
        report = journal.reports[replica.process]
        await stage.end(replica)
        written = {**journal.sinks, "kafka": await asyncio.to_thread(copies, kafka, stage.kafka_topic)}
    for copies_there in written.values():
        assert Counter(copy.message_id for copy in copies_there) == dict.fromkeys(journal.published, 1)
    assert not journal.refused_acks  # so none was sent with a receipt that was over
    assert report["remembered"] == report["not_acked"]["expired"] > 0
    assert [end.code for end in journal.exits] == [0]
