"""docs/performance.md and its plots, made from results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from benchmarks.plot import bars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PLOTS = "performance"

DIGITS = {"cosine_min": 6, "cosine_mean": 6}
"""Of figures near one, where three digits say nothing."""

Result = dict[str, Any]

HEAD = """# Performance

<!-- Written by `python -m benchmarks report` from benchmarks/results/*.json: change nothing by hand. -->

Each table is one run. The contenders took turns, round by round, on the same texts, so that what disturbed the machine
disturbed all of them. A number is the median of the rounds, with their range in brackets; a ratio was taken in each
round before its median was. Absolute numbers hold for the machine that is named; ratios hold better. `make bench`
measures anew.
"""

LIMITS = """## Limits

- With the real model on a CPU, all that send batches wait for the model: the differences between them are of the size
  of the noise. With the stub, Quix Streams and Pathway are faster than embedstream: they look up no id before they
  embed, keep no ledger and no versions, and need no JVM beside Python. Of embedstream's CPU time a message, a third is
  the job's Python worker, a fifth PostgreSQL, a sixth the TaskManager, an eighth the service; the rest is the load
  itself, the broker and the JobManager. In all it was 220 us on the EPYC at its best, so that two CPUs are full at
  9,000 messages a second, and 400 us, or 5,000 a second, when it was slow; 270 to 300 us on the Xeon.
- The machine is a virtual one whose two CPUs do the same work in once to twice the time, depending on its neighbours.
- With the index, a message costs its walk through the graph: that is why the index of a new table is built after the
  load (see docs/explanation/vector-index.md).
- In the migration, messages a second are of those that come as fast as the broker takes them, before which the filling
  gives way: what is left is the cost of a second row and a second vector for each message. The latencies are of a
  stream at half of the undisturbed rate, beside which the filling was timed, with the start of its command. How long
  readers and writers were blocked is the command's own account; the longest read is that of a client who asks for a row
  all the while, the longest write that of a message of the paced stream.

What the streaming peers of the pipeline do, and what they do not:

- Each has the same topic, service and machine as embedstream, requests of up to 128 texts in base64, and a table of the
  same shape. None decides by version which message wins, or makes dead letters, as embedstream does. CocoIndex keeps a
  state of its own of what it stored; Quix Streams and Pathway keep none here.
- Quix Streams runs as two processes, Pathway as two threads, CocoIndex as one process; embedstream has two slots.
- Quix Streams has a sink of its own for PostgreSQL, but it writes lists as JSON, which `real[]` refuses. The sink that
  stands here is a custom one that copies into a temporary table and merges it.
- CocoIndex 1.0.26 was seen to delete the rows of messages that it read before it was ready. No load is
  sent before that here. With the stub model it gets a twentieth of the texts.
- Pathway 0.33 takes no column of the name `id` and writes to no view: its table calls the key `message_id`, and `id` is
  a generated column.
"""


def newest(results: Sequence[Result], order: Sequence[str]) -> list[Result]:
    """The latest whole result of each scenario."""
    whole = sorted((result for result in results if not result["settings"]["quick"]), key=lambda result: result["at"])
    latest = {result["scenario"]: result for result in whole}
    return [latest[name] for name in order if name in latest]


def write(results: Sequence[Result], out: Path) -> Iterator[Path]:
    """Writes the page and the plots, and yields their paths."""
    plots = out / PLOTS
    plots.mkdir(parents=True, exist_ok=True)
    for result in results:
        path = plots / f"{result['scenario']}.svg"
        path.write_text(plot(result), encoding="utf-8")
        yield path
    page = out / "performance.md"
    sections = [section(result) for result in results] or ["No result is committed yet.\n"]
    page.write_text("\n".join([HEAD, *sections, LIMITS]), encoding="utf-8")
    yield page


def plot(result: Result) -> str:
    name = result["figure"]
    rows = {
        contender: (figures[name]["median"], figures[name]["min"], figures[name]["max"])
        for contender, figures in result["figures"].items()
        if name in figures
    }
    return bars(result["title"], rows)


def section(result: Result) -> str:
    name = result["scenario"]
    parts = [f"## {result['title']}", f"![{result['title']}]({PLOTS}/{name}.svg)", _table(result)]
    parts += [f"Left out: {contender} ({reason})." for contender, reason in result["skipped"].items()]
    return "\n\n".join([*parts, _origin(result)]) + "\n"


def _table(result: Result) -> str:
    figures = result["figures"]
    names = list(dict.fromkeys(name for own in figures.values() for name in own))
    baseline = next((ratio["to"] for ratio in result["ratios"].values()), None)
    head = ["contender", *(name.replace("_", " ") for name in names), *([f"of {baseline}"] if baseline else [])]
    rows = [
        [contender, *(_cell(own.get(name), DIGITS.get(name, 3)) for name in names)]
        + ([_cell(result["ratios"].get(contender))] if baseline else [])
        for contender, own in figures.items()
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(summary: Mapping[str, float] | None, digits: int = 3) -> str:
    if summary is None:
        return ""
    median, low, high = (number(summary[name], digits) for name in ("median", "min", "max"))
    return median if low == high else f"{median} ({low} to {high})"


def number(value: float, digits: int) -> str:
    """So many significant digits, but at least all before the point."""
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _origin(result: Result) -> str:
    machine = result["machine"]
    known = result["versions"] | {name: version for own in result["peers"].values() for name, version in own.items()}
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    flags = ", ".join(cast("list[str]", machine["flags"]))
    own = "".join(f" {name}={value}" for name, value in result["set"].items())
    return (
        f"{machine['cpu']}, {machine['cpus_of_affinity_and_cgroup']} CPUs ({flags}), {machine['memory_gib']} GiB; "
        f"{machine['busy']:.0%} busy with other things before the run. {versions}. "
        f"`{own.strip()} {result['command']}` at {result['commit']}, {result['at'][:10]}, "
        f"{result['settings']['rounds']} rounds in {result['minutes']:.0f} minutes.".replace("` ", "`", 1)
    )
