"""Writes Grafana's dashboard: `python tools/dashboards.py`. A test says whether what is committed is what this writes.

A panel here is what somebody wants to know, and the queries that tell it; how it is drawn follows from its unit.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
)

PATH = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards" / "embedstream.json"
UNKNOWN = "not known"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
OF_PIPELINE = '{pipeline=~"$pipeline"}'
OPERATOR = "flink_taskmanager_job_task_operator"
PERCENTILES = ("0.5", "0.95", "0.99")


class Query(NamedTuple):
    expr: str
    legend: str


class Panel(NamedTuple):
    """A line over time, or with `drawn` "stat" the value of now, "parts" bars of when something held.

    `limits` are the values from which on a stat is orange, and red.
    """

    title: str
    unit: str
    queries: tuple[Query, ...]
    drawn: str = "lines"
    text: str = ""
    limits: tuple[float, ...] = ()


def of(name: str) -> str:
    return f"embedstream_{name}{OF_PIPELINE}"


def per_second(name: str, labels: str, selector: str = "") -> str:
    return f"sum by ({labels}) (rate({name}{selector}[$__rate_interval]))"


def quantile(share: str, name: str, labels: str, selector: str = "") -> str:
    return f"histogram_quantile({share}, {per_second(f'{name}_bucket', f'le, {labels}' if labels else 'le', selector)})"


def one(name: str, legend: str = "{{pipeline}}") -> tuple[Query, ...]:
    return (Query(of(name), legend),)


def within(milliseconds: int) -> Query:
    """The share of messages that were searchable so soon."""
    soon, all_ = (per_second(f"{OPERATOR}_latency_{which}", "job_name") for which in (f"le_{milliseconds}ms", "count"))
    return Query(f"{soon} / {all_}", f"{{{{job_name}}}} {milliseconds} ms")


def health() -> str:
    degraded, down = (f'embedstream_health{{pipeline=~"$pipeline", state="{state}"}}' for state in ("degraded", "down"))
    return f"sum by (pipeline) ({degraded}) + 2 * sum by (pipeline) ({down})"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Health", "health", (Query(health(), "{{pipeline}}"),), "stat", "`embedstream status` says why."),
        Panel("Unread", "short", (Query(f"sum by (pipeline) ({of('lag_messages')})", "{{pipeline}}"),), "stat"),
        Panel("Oldest unread", "s", one("oldest_unread_seconds"), "stat"),
        Panel("Time until all is read", "s", one("eta_seconds"), "stat", "Not known while nothing moves."),
        Panel("Dead letters", "short", one("dead_letters"), "stat", limits=(1,)),
        Panel("Findings of the last audit", "short",
              (Query(f"sum by (pipeline) ({of('audit_findings')})", "{{pipeline}}"),), "stat",
              "Of the last audit on the console's page.", (1,)),
    ),
    "The pipeline": (
        Panel("Rows a second", "ops", one("rows_per_second")),
        Panel("Unread messages", "short", one("lag_messages", "{{pipeline}} partition {{partition}}")),
        Panel("Age of the oldest unread message", "s",
              one("oldest_unread_seconds") + one("health_max_age_seconds", "{{pipeline}}: healthy up to")),
        Panel("Since the latest checkpoint", "s",
              one("since_checkpoint_seconds") + one("health_max_waiting_seconds", "{{pipeline}}: healthy up to")),
        Panel("Messages a second, by outcome", "ops",
              (Query(per_second("embedstream_job_messages_total", "pipeline, outcome", OF_PIPELINE),
                     "{{pipeline}} {{outcome}}"),)),
        Panel("Latency: produced to searchable", "s", one("job_latency_seconds", "{{pipeline}} {{quantile}}"),
              text="Of the latest 4,096 messages of the slowest slot."),
        Panel("Topic and table", "short",
              one("topic_messages", "{{pipeline}} messages") + one("rows", "{{pipeline}} rows")
              + one("deleted_ids", "{{pipeline}} deleted ids")),
        Panel("Dead letters and late messages", "short",
              one("dead_letters", "{{pipeline}} dead letters") + one("late_total", "{{pipeline}} late")),
        Panel("Parts that answer", "up", one("up", "{{pipeline}} {{part}}"), "parts"),
        Panel("Vector index", "up", one("index_state", "{{pipeline}} {{state}}"), "parts"),
        Panel("Build of the index", "percent", one("index_build_percent")),
        Panel("Since the last audit", "s", (Query(f"time() - {of('audit_timestamp_seconds')}", "{{pipeline}}"),)),
    ),
    "The job, by Flink": (
        Panel("Searchable within", "percentunit", (within(100), within(500), within(1000)),
              text="The share of the messages that took effect."),
        Panel("Mean latency", "ms", (Query(
            f"{per_second(f'{OPERATOR}_latency_sum_ms', 'job_name')} / "
            f"{per_second(f'{OPERATOR}_latency_count', 'job_name')}", "{{job_name}}"),)),
        Panel("Waiting for service and table", "percentunit",
              (Query(f"{per_second(f'{OPERATOR}_waited_ms', 'job_name')} / 1000", "{{job_name}}"),),
              text="Seconds a second, over all slots. Nothing moves while a call waits: see the checkpoints."),
        Panel("Texts a second", "ops", (
            Query(per_second(f"{OPERATOR}_embedded_texts", "job_name"), "{{job_name}} embedded"),
            Query(per_second(f"{OPERATOR}_embed_calls_saved", "job_name"), "{{job_name}} known already"))),
        Panel("Pending records", "short",
              (Query("sum by (job_name) (flink_taskmanager_job_task_operator_pendingRecords)", "{{job_name}}"),)),
        Panel("Checkpoints", "short", (
            Query("max by (job_name) (flink_jobmanager_job_numberOfCompletedCheckpoints)", "{{job_name}} completed"),
            Query("max by (job_name) (flink_jobmanager_job_numberOfFailedCheckpoints)", "{{job_name}} failed"))),
    ),
    "The embedding service": (
        Panel("Texts and tokens a second", "ops", (
            Query("sum(rate(embedding_texts_total[$__rate_interval]))", "texts"),
            Query("sum(rate(embedding_tokens_total[$__rate_interval]))", "tokens"))),
        Panel("Queue", "short", (Query("sum(embedding_queue_texts)", "texts"),)),
        Panel("Requests a second", "ops", (
            Query(per_second("embedding_requests_total", "path, status"), "{{path}} {{status}}"),)),
        Panel("A batch", "s", tuple(
            Query(quantile(share, f"embedding_{name}_seconds", ""), f"{name} {share}")
            for name in ("wait", "inference") for share in PERCENTILES)),
    ),
    "Searches on the console": (
        Panel("Searches a second", "ops", (
            Query(per_second("embedstream_search_seconds_count", "pipeline, mode, method", OF_PIPELINE),
                  "{{pipeline}} {{mode}}, {{method}}"),
            Query(per_second("embedstream_search_incomplete_total", "pipeline", OF_PIPELINE),
                  "{{pipeline}} incomplete"))),
        Panel("Time of a search", "s", tuple(
            Query(quantile(share, "embedstream_search_seconds", "mode", OF_PIPELINE), f"{{{{mode}}}} {share}")
            for share in PERCENTILES)),
    ),
}  # fmt: skip

STATES = (("Healthy", "green"), ("Degraded", "orange"), ("Down", "red"))


def thresholds(limits: tuple[float, ...]) -> build.ThresholdsConfig:
    colours = zip((None, *limits), ("green", "orange", "red"), strict=False)
    return build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(*each) for each in colours])


def _stat(panel: Panel) -> stat.Panel:
    drawn = (
        stat.Panel()
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.BACKGROUND if panel.unit == "health" else BigValueColorMode.VALUE)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value(UNKNOWN)
        .span(4)
        .height(5)
    )
    if panel.unit != "health":
        return drawn.unit(panel.unit).thresholds(thresholds(panel.limits))
    texts = {
        str(value): ValueMappingResult(text=text, color=colour, index=value)
        for value, (text, colour) in enumerate(STATES)
    }
    return drawn.mappings([ValueMap(texts)]).thresholds(thresholds((1, 2)))


def _parts(_: Panel) -> statetimeline.Panel:
    """Green where it held: 1, else 0."""
    yes = {"1": ValueMappingResult(text="yes", color="green"), "0": ValueMappingResult(text="no", color="#80808040")}
    drawn = statetimeline.Panel().mappings([ValueMap(yes)]).show_value(VisibilityMode.NEVER)
    return drawn.legend(_legend(shown=False)).span(12).height(8)


def _lines(panel: Panel) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .unit(panel.unit)
        .min(0)
        .fill_opacity(8)
        .show_points(VisibilityMode.NEVER)
        .no_value(UNKNOWN)
        .legend(_legend(shown=True))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .span(12)
        .height(8)
    )


def _legend(*, shown: bool) -> common.VizLegendOptions:
    drawn = common.VizLegendOptions().placement(LegendPlacement.BOTTOM).show_legend(shown)
    return drawn.display_mode(LegendDisplayMode.LIST if shown else LegendDisplayMode.HIDDEN)


def _drawn(panel: Panel, id: int) -> stat.Panel | statetimeline.Panel | timeseries.Panel:
    drawn = {"stat": _stat, "parts": _parts, "lines": _lines}[panel.drawn](panel)
    drawn = drawn.id(id).title(panel.title).datasource(SOURCE)
    if panel.text:
        drawn = drawn.description(panel.text)
    for number, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        drawn = drawn.with_target((asked.instant() if panel.drawn == "stat" else asked.range()).datasource(SOURCE))
    return drawn


def _variables() -> list[build.DatasourceVariable | build.QueryVariable]:
    everything = VariableOption(selected=True, text="All", value="$__all")
    return [
        build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        build.QueryVariable("pipeline")
        .label("Pipeline")
        .datasource(SOURCE)
        .query("label_values(embedstream_up, pipeline)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .current(everything),
    ]


def dashboard() -> str:
    board = (
        build.Dashboard("embedstream")
        .uid("embedstream")
        .tags(["embedstream"])
        .time("now-1h", "now")
        .refresh("15s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables(_variables())
    )
    ids = itertools.count(1)
    for title, panels in ROWS.items():
        board = board.with_row(build.Row(title).id(next(ids)))
        for panel in panels:
            board = board.with_panel(_drawn(panel, next(ids)))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


if __name__ == "__main__":
    PATH.write_text(dashboard(), encoding="utf-8")
