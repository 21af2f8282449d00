"""The few figures that the README shows, from the same results as docs/performance.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measure import ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

OURS = "embedstream"
BEGIN, END = "<!-- headlines -->\n", "<!-- /headlines -->"

Result = dict[str, Any]
Row = tuple[str, str, str]


def headlines(results: Sequence[Result]) -> str:
    """A table in Markdown, and of what machine it holds; nothing where there is no result."""
    rows = [row for result in results if result["scenario"] in _ROWS for row in _ROWS[result["scenario"]](result)]
    if not rows:
        return ""
    lines = ["| measured | | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([*lines, "", _where([result for result in results if result["scenario"] in _ROWS])]) + "\n"


def _where(results: Sequence[Result]) -> str:
    """Of which machine the rows are; where they are of several, which rows are of which."""
    measured: dict[str, list[str]] = {}
    for result in results:
        machine = result["machine"]
        name = f"{machine['cpu']}, {machine['cpus_of_affinity_and_cgroup']} CPUs, all parts on them"
        measured.setdefault(name, []).append(result["scenario"])
    if len(measured) == 1:
        return f"Medians on one machine: {next(iter(measured))}."
    parts = (f"{', '.join(scenarios)} on {name}" for name, scenarios in measured.items())
    return f"Medians, a run each: {'; '.join(parts)}."


def placed(page: str, block: str) -> str:
    """The page with `block` between its marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{block}{END}{tail}"


def _median(result: Result, contender: str, figure: str) -> float:
    return float(result["figures"][contender][figure]["median"])


def _compared(
    result: Result, what: str, unit: str, ours: str = OURS, among: Collection[str] | None = None
) -> Iterator[Row]:
    """Our rate, and how many times each of the others (None: all) it is; the ratios are taken round by round."""
    figure, rounds = result["figure"], result["rounds"]
    able = [name for name, figures in result["figures"].items() if figure in figures and name != ours]
    others = able if among is None else [name for name in able if name in among]
    times = (f"{ratios(rounds, figure, other)[ours]['median']:.2f} times {other}" for other in others)
    yield what, f"{_median(result, ours, figure):,.0f} {unit}", ", ".join(times)


def _engine(result: Result) -> Iterator[Row]:
    return _compared(result, "engine, f32", "texts/s")


def _service(result: Result) -> Iterator[Row]:
    among = ("engine", "Flask tutorial 64x4")
    return _compared(result, "service, 64 texts a request, 4 connections", "texts/s", "64x4 base64", among)


def _pipeline(result: Result) -> Iterator[Row]:
    return _compared(result, "pipeline, from topic to committed row", "messages/s")


def _ceiling(result: Result) -> Iterator[Row]:
    return _compared(result, "the same with a stub for the model", "messages/s")


def _latency(result: Result) -> Iterator[Row]:
    name = "10 a second"
    p50, p99 = (_median(result, name, f"p{percent}_ms") for percent in (50, 99))
    yield "from produced to searchable, at 10 messages/s", f"p50 {p50:.0f} ms, p99 {p99:.0f} ms", ""


def _replay(result: Result) -> Iterator[Row]:
    rate = _median(result, "again", "texts_per_second")
    embedded = _median(result, "again", "embedded_texts")
    yield "a whole topic again", f"{rate:,.0f} messages/s", f"{embedded:.0f} texts embedded"


_ROWS: dict[str, Callable[[Result], Iterator[Row]]] = {
    "engine": _engine,
    "service": _service,
    "pipeline": _pipeline,
    "ceiling": _ceiling,
    "latency": _latency,
    "replay": _replay,
}
