"""`python -m benchmarks`: run scenarios, compare results, and write docs/performance.md from them."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from benchmarks import compare as comparing
from benchmarks import report as reporting
from benchmarks.headlines import headlines, placed
from benchmarks.machine import circumstances
from benchmarks.measure import measure
from benchmarks.plan import Plan, Scenario
from benchmarks.texts import fingerprint
from embedstream.errors import EmbedstreamError

SCENARIOS = (
    "engine",
    "service",
    "pipeline",
    "ceiling",
    "profile",
    "latency",
    "growth",
    "replay",
    "decode",
    "formats",
    "search",
    "vector_index",
    "vector_index_million",
    "console",
    "migration",
)
LONG = ("vector_index_million",)
"""They are run by their names alone."""
_WHICH = f"Of {', '.join(SCENARIOS)}; none: all but {', '.join(LONG)}."
RESULTS = Path(__file__).parent / "results"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def run(
    scenarios: Annotated[list[str] | None, typer.Argument(help=_WHICH)] = None,
    out: Annotated[Path, typer.Option(help="Directory of the results, one JSON file for each run.")] = RESULTS,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count, after one that does not.")] = 3,
    seed: Annotated[int, typer.Option(help="Chooses the texts.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Few texts: to see whether it works.")] = False,
) -> None:
    """Measure, print, and write one JSON file for each scenario.

    Example: python -m benchmarks run pipeline --rounds 2
    """
    if unknown := set(scenarios or ()) - set(SCENARIOS):
        raise typer.BadParameter(f"no such scenario: {', '.join(sorted(unknown))}")
    for name in scenarios or [each for each in SCENARIOS if each not in LONG]:
        result = run_one(name, rounds, seed, quick=quick)
        out.mkdir(parents=True, exist_ok=True)
        moment = result["at"].replace("-", "").replace(":", "").partition("+")[0]
        path = out / f"{name}-{moment}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {path}")


def run_one(name: str, rounds: int, seed: int, *, quick: bool) -> dict[str, Any]:
    """The whole result of a scenario."""
    scenario = cast("Scenario", importlib.import_module(f"benchmarks.scenarios.{name}"))
    facts = circumstances()
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix=f"benchmark-{name}-"))
    with ExitStack() as closing:
        plan = Plan(rounds, seed, quick, directory, closing)
        measured = measure(scenario, plan, lambda line: print(line, flush=True))
    shutil.rmtree(directory, ignore_errors=True)
    return {
        "scenario": name,
        "title": scenario.TITLE,
        "figure": scenario.FIGURE,
        # Without --out: where the results go changes none, and is a path of one machine.
        "command": f"python -m benchmarks run {name} --rounds {rounds} --seed {seed}{' --quick' * quick}",
        **facts,
        "settings": {"rounds": rounds, "seed": seed, "quick": quick},
        "texts": fingerprint(plan.texts(0, 100)),
        **measured,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


@app.command()
def compare(before: Path, after: Path) -> None:
    """Show what changed between two results of one scenario.

    Example: python -m benchmarks compare before.json after.json
    """
    for line in comparing.rendered(_read(before), _read(after)):
        print(line)


def _read(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="Directory of the results.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="Directory of the page and its plots.")] = Path("docs"),
    readme: Annotated[Path, typer.Option(help="Page that shows the headlines.")] = Path("README.md"),
) -> None:
    """Write performance.md and its plots, and the README's headlines, from the newest result of each scenario.

    Example: python -m benchmarks report
    """
    newest = reporting.newest([_read(path) for path in sorted(results.glob("*.json"))], SCENARIOS)
    for path in reporting.write(newest, out):
        print(f"wrote {path}")
    page = readme.read_text(encoding="utf-8")
    readme.write_text(placed(page, headlines(newest)), encoding="utf-8")
    print(f"wrote the headlines of {readme}")


if __name__ == "__main__":
    # As Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        app(prog_name="python -m benchmarks")
    except EmbedstreamError as exc:
        sys.exit(f"benchmarks: {exc}")
