"""What KEDA would read from a real Prometheus, by the query that the chart renders."""

from pathlib import Path

from bridge.errors import SinkDownError
from bridge.testing import MemorySink
from helm.chart import NAMESPACE, example, manifests, merged, one
from monitoring.pods import pods
from monitoring.prometheus import scraping
from outside.command import GROUP, TOPIC
from outside.waiting import until_seen

PUBLISHED = 40


async def test_the_query_for_keda_follows_the_backlog_up_and_down_and_is_0_while_the_sink_is_down(
    tmp_path: Path,
) -> None:
    values = merged(example("keda"), {"rocketmq": {"topic": TOPIC, "groupId": GROUP}})
    (trigger,) = one(manifests(values), "ScaledObject")["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    sink = MemorySink()
    sink.hold.clear()
    async with (
        pods(tmp_path, lease_seconds=300, minute_seconds=0.2) as running,
        running.pod(sink=sink),
        scraping(tmp_path, running.ports["a"], labels={"namespace": NAMESPACE}) as prometheus,
    ):

        def publish() -> None:
            for number in range(PUBLISHED):
                running.emulator.publish(TOPIC, f"{number}")

        async def reads(expected: float, asked: str = query) -> bool:
            return await prometheus.value(asked) == expected

        publish()
        await until_seen(lambda: reads(PUBLISHED))
        publish()
        await until_seen(lambda: reads(2 * PUBLISHED))
        sink.hold.set()
        await until_seen(lambda: reads(0))

        sink.trouble = SinkDownError("no brokers")
        publish()
        await until_seen(lambda: reads(PUBLISHED, "bridge_backlog_messages"))
        await until_seen(lambda: reads(0))

        groups = (await prometheus.get("rules"))["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
