"""Writes the chart's Grafana dashboard anew. Grafana's own library types every option."""  # noqa: INP001 - a script, and no package

import re
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode, LegendDisplayMode, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableModel,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DASHBOARD = Path(__file__).parent / "rocketmq-bridge" / "dashboards" / "rocketmq-bridge.json"
VARIABLES = ("namespace", "job", "instance")
"""Labels that what is looked at is chosen by, each with the values that those before it leave."""
CHOSEN = ",".join(f'{label}=~"${label}"' for label in VARIABLES)

COLUMNS, HEIGHT = 24, 8
GREEN, YELLOW, RED = "green", "yellow", "red"
POD = "{{pod}} {{instance}}"
GROUP = "{{topic}} {{group}}"
"""How a series is called."""

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """PromQL, where each metric stands for those of its series that are chosen."""

    expression: str
    legend: str

    def built(self, letter: str = "A") -> prometheus.Dataquery:
        """As Grafana asks it; each of a panel by another letter."""
        query = prometheus.Dataquery().ref_id(letter).datasource(DATASOURCE)
        return query.expr(_chosen(self.expression)).legend_format(self.legend)


def _chosen(expression: str) -> str:
    def choose(metric: re.Match[str]) -> str:
        name, matchers = metric.groups()
        return f"{name}{{{','.join(filter(None, (matchers, CHOSEN)))}}}"

    return re.sub(r"(bridge_\w+)(?:\{(.*?)\})?", choose, expression)


def _quantiles(histogram: str, *quantiles: float, by: str = "", legend: str = "") -> list[Query]:
    """Of all that was observed since the last step, by a label besides."""
    labels = ", ".join(filter(None, ("le", by)))
    return [
        Query(
            f"histogram_quantile({quantile:g}, sum by ({labels}) (rate({histogram}_bucket[$__rate_interval])))",
            f"{legend} p{quantile * 100:g}".strip(),
        )
        for quantile in quantiles
    ]


def _rate(counter: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({counter}[$__rate_interval]))"


# ---- panels ----------------------------------------------------------------------------------------------------------


def _graph(title: str, description: str, unit: str, *queries: Query, width: int = 8) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(show_legend=True)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .span(width)
        .height(HEIGHT)
    )
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(query.built(letter))
    return panel


def _number(title: str, description: str, unit: str, query: Query, *steps: tuple[float | None, str]) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value("unknown")
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .thresholds(_thresholds(*(steps or ((None, GREEN),))))
        .with_target(query.built())
        .span(4)
        .height(4)
    )


def _thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours, each from its value on."""
    colours = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)


def _up_or_down(title: str, description: str, query: Query, *, down: str, up: str, bad: str) -> statetimeline.Panel:
    """Over time, whether something is 1 or 0; `bad` is which of the two is red."""
    colours = {value: RED if value == bad else GREEN for value in ("0", "1")}
    texts = {value: ValueMappingResult(text=text, color=colours[value]) for value, text in (("0", down), ("1", up))}
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .mappings([ValueMap(options=texts)])
        .thresholds(_thresholds((None, GREEN)))
        .with_target(query.built())
        .span(16)
        .height(HEIGHT)
    )


def _heat(title: str, description: str, histogram: str) -> heatmap.Panel:
    query = Query(f"sum by (le) (increase({histogram}_bucket[$__rate_interval]))", "{{le}}")
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit(units.Seconds))
        .show_tooltip()
        .with_target(query.built().format(PromQueryFormat.HEATMAP))
        .span(8)
        .height(HEIGHT)
    )


BY_ROW: dict[str, list[Builder[Panel]]] = {
    "Is it flowing?": [
        _number(
            "Pods ready", "How many pods deliver, or would if there were anything: what /readyz says.", units.Short,
            Query("sum(bridge_ready)", "ready"), (None, RED), (1, GREEN),
        ),
        _number(
            "Backlog", "Messages that wait for the group, as the management API says, where it is asked.", units.Short,
            Query("sum(max by (namespace, job, topic, group) (bridge_backlog_messages))", "messages"),
        ),
        _number(
            "Oldest message that waits", "The broker deletes messages after three days.", units.Seconds,
            Query("max(bridge_backlog_delay_seconds)", "age"), (None, GREEN), (900, YELLOW), (2 * 86400, RED),
        ),
        _number(
            "Acked in the time shown", "Messages that have come to the end of their way.", units.Short,
            Query("sum(increase(bridge_messages_acked_total[$__range]))", "messages"),
        ),
        _number(
            "Dead letters in the time shown", "Somebody has to look at each.", units.Short,
            Query("sum(increase(bridge_dead_letters_total[$__range]))", "dead letters"), (None, GREEN), (0.5, YELLOW),
        ),
        _number(
            "Leases expired in the time shown", "Kept for longer than their lease: they come again, late.", units.Short,
            Query("sum(increase(bridge_leases_expired_total[$__range]))", "messages"), (None, GREEN), (0.5, YELLOW),
        ),
        _up_or_down(
            "Components", "Whether each worked in all pods the last time it was used. What hasn't been used yet is down.",
            Query("min by (job, component) (bridge_component_up)", "{{job}} {{component}}"), down="down", up="up", bad="0",
        ),
        _graph(
            "Ready", "Pods that are ready, of those that are scraped.", units.Short,
            Query("sum by (job) (bridge_ready)", "{{job}} ready"),
            Query("count by (job) (bridge_ready)", "{{job}} there"),
        ),
        _graph(
            "Messages", "Confirmed: by a sink, and so once for each of several. Acked: the end of the way.",
            units.MessagesPerSecond,
            Query(_rate("bridge_messages_received_total"), "received"),
            Query(_rate("bridge_messages_delivered_total"), "confirmed"),
            Query(_rate("bridge_messages_acked_total"), "acked"),
        ),
        _graph(
            "Backlog", "Each pod reports that of the whole group, so the greatest is shown.", units.Short,
            Query("max by (job, topic, group) (bridge_backlog_messages)", GROUP),
        ),
        _graph(
            "Age of the oldest message that waits", "Falling behind when it grows.", units.Seconds,
            Query("max by (job, topic, group) (bridge_backlog_delay_seconds)", GROUP),
        ),
        _graph(
            "End to end", "From the publishing of a message to its confirmation by every sink.", units.Seconds,
            *_quantiles("bridge_end_to_end_latency_seconds", 0.5, 0.99), width=12,
        ),
        _up_or_down(
            "Paused", "Nothing is polled on purpose, as while a sink is down.",
            Query("bridge_polling_paused", POD), down="polling", up="paused", bad="1",
        ).span(12),
    ],
    "Leases": [
        _graph(
            "In hand", "Messages received, and neither acked nor left to the broker.", units.Short,
            Query("sum by (job) (bridge_messages_in_flight)", "{{job}} in hand"),
            Query("sum by (job) (bridge_messages_parked)", "{{job}} waiting beside the flow"),
        ),
        _graph(
            "Shortest lease in hand", "When the first of them ends. Nothing is handed to a sink that can't be acked in time.",
            units.Seconds, Query("min by (job) (bridge_shortest_lease_seconds)", "{{job}}"),
        ),
        _graph(
            "Expired, and saved by the ledger", "Not sent twice: redeliveries that the ledger knew.",
            units.MessagesPerSecond,
            Query(_rate("bridge_leases_expired_total"), "expired"),
            Query(_rate("bridge_duplicates_avoided_total"), "not sent twice"),
        ),
        _heat("What was left of the lease at the ack", "Near 0: about to deliver twice.", "bridge_ack_slack_seconds"),
        _graph(
            "Left of the lease, the worst acks", "1 % of the acks had less left than this.", units.Seconds,
            *_quantiles("bridge_ack_slack_seconds", 0.01, 0.5),
        ),
        _graph(
            "Left to the broker", "It delivers them again when their lease ends.", units.MessagesPerSecond,
            Query(_rate("bridge_messages_left_total", "reason"), "{{reason}}"),
        ),
    ],
    "Sinks": [
        _graph(
            "Time of a send", "Each call of a sink, with one event or many.", units.Seconds,
            *_quantiles("bridge_send_duration_seconds", 0.5, 0.99, by="sink", legend="{{sink}}"), width=6,
        ),
        _graph(
            "Confirmed", "Events, by sink.", units.EventsPerSecond,
            Query(_rate("bridge_messages_delivered_total", "sink"), "{{sink}}"), width=6,
        ),
        _graph(
            "Trouble", "Retries: within a lease. Refused: the sink will never take it. Damaged: could not be read.",
            units.EventsPerSecond,
            Query(_rate("bridge_send_retries_total"), "sent again"),
            Query(_rate("bridge_messages_refused_total"), "refused"),
            Query(_rate("bridge_messages_damaged_total"), "damaged"), width=6,
        ),
        _graph(
            "Dead letters", "By reason; deliveries: it failed too often.", units.EventsPerSecond,
            Query(_rate("bridge_dead_letters_total", "reason"), "{{reason}}"), width=6,
        ),
    ],
    "Broker": [
        _graph(
            "Polls", "Early: empty much sooner than asked. Cut: the answer was lost.", units.OpsPerSecond,
            Query(_rate("bridge_polls_total", "result"), "{{result}}"),
        ),
        _graph(
            "Time of a poll", "An idle topic's last as long as a long poll waits.", units.Seconds,
            *_quantiles("bridge_poll_duration_seconds", 0.5, 0.99),
        ),
        _graph(
            "Connections",
            "At most: one for each poller, and one more a pod for acks. Over 100 of an instance, all its groups and topics "
            "together, the service answers long polls at once.",
            units.Short,
            Query("sum(bridge_pollers) + count(bridge_pollers)", "in use"),
            Query("sum by (job) (bridge_pollers)", "{{job}} pollers"),
            Query("vector($budget)", "budget of the instance"),
        ),
        _graph(
            "Acks", "Calls, of up to 16 messages each; an error is tried again.", units.OpsPerSecond,
            Query(_rate("bridge_ack_calls_total"), "calls"),
            Query(_rate("bridge_ack_errors_total"), "errors"),
        ),
        _graph(
            "Confirmed and not acked", "By the broker's code. They come again, and are known to the ledger.",
            units.MessagesPerSecond, Query(_rate("bridge_ack_failures_total", "code"), "{{code}}"),
        ),
        _up_or_down(
            "Throttled", "Long polls are answered at once, as where an instance has too many connections.",
            Query("bridge_polls_not_held", POD), down="polls are held", up="answered at once", bad="1",
        ).span(8),
    ],
    "Cost": [
        _graph(
            "API calls", "Polls and acks together.", units.OpsPerSecond, Query(_rate("bridge_api_calls_total"), "calls"),
        ),
        _graph(
            "Units a day", "An estimate of what the service bills, at the present pace.", units.Short,
            Query(f"86400 * {_rate('bridge_billed_units_total')}", "units a day"),
        ),
        _graph(
            "For each message", "Falls as polls come back fuller. Nothing is shown while nothing is acked.", units.Short,
            Query(f"{_rate('bridge_billed_units_total')} / ({_rate('bridge_messages_acked_total')} > 0)", "units"),
            Query(f"{_rate('bridge_api_calls_total')} / ({_rate('bridge_messages_acked_total')} > 0)", "calls"),
        ),
    ],
    "Process": [
        _graph(
            "Lag of the event loop", "Much of it: too little processor, or a sink that blocks.", units.Seconds,
            *_quantiles("bridge_event_loop_lag_seconds", 0.5, 0.99),
            Query("max(bridge_event_loop_stuck_seconds)", "stuck for"),
        ),
        _graph(
            "Runs for", "Since the process started.", units.Seconds, Query("time() - bridge_start_time_seconds", POD),
        ),
        _graph(
            "Versions", "Pods of each.", units.Short, Query("count by (version) (bridge_build_info)", "{{version}}"),
        ),
        _graph(
            "Credentials expire in", "Nothing where they don't, or nobody has said when.", units.Seconds,
            Query("bridge_credentials_remaining_seconds", POD),
        ),
        _graph(
            "Shared ledger", "Asked about redeliveries; nothing where there is none.", units.OpsPerSecond,
            Query(_rate("bridge_ledger_lookups_total", "result"), "lookups {{result}}"),
            Query(_rate("bridge_ledger_hits_total"), "hits"),
            Query(_rate("bridge_ledger_failures_total"), "failures"),
            Query(_rate("bridge_ledger_dropped_total"), "dropped"),
        ),
        _graph(
            "Clients listed", "Clients of the group, as the management API says; it may not list those over HTTP.", units.Short,
            Query("max by (job, topic, group) (bridge_consumer_connections)", GROUP),
        ),
    ],
}  # fmt: skip


# ---- the whole -------------------------------------------------------------------------------------------------------


def _variables() -> list[Builder[VariableModel]]:
    found: list[Builder[VariableModel]] = [dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")]
    for number, label in enumerate(VARIABLES):
        narrowed = ",".join(f'{before}=~"${before}"' for before in VARIABLES[:number])
        found.append(
            dashboard.QueryVariable(label)
            .label(label)
            .datasource(DATASOURCE)
            .query(f"label_values(bridge_build_info{{{narrowed}}}, {label})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")  # series without the label, too, as where nothing runs in Kubernetes
        )
    found.append(dashboard.TextBoxVariable("budget").label("connection budget").default_value("100"))
    return found


def generated() -> str:
    """The dashboard as Grafana imports it."""
    built = (
        dashboard.Dashboard("rocketmq-bridge")
        .uid("rocketmq-bridge")
        .description("Messages from ApsaraMQ for RocketMQ to their sinks: whether they flow, and what is in their way.")
        .tags(["rocketmq", "bridge"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .variables(_variables())
    )
    for title, panels in BY_ROW.items():
        built.with_row(dashboard.Row(title))
        for builder in panels:
            built.with_panel(builder)
    whole = built.build()
    for number, panel in enumerate(whole.panels or (), start=1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(whole) + "\n"


if __name__ == "__main__":
    DASHBOARD.parent.mkdir(exist_ok=True)
    DASHBOARD.write_text(generated(), encoding="utf-8")
