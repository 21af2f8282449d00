"""The proof that the table equals the topic, run from a page: one at a time, and a repair only as it was shown."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, redirect, render_template, request, url_for

from embedstream import audit as proving
from embedstream.console.guard import need_writer
from embedstream.console.parts import parts, pipeline
from embedstream.console.tasks import Busy
from embedstream.errors import ConfigError
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

    from embedstream.audit import Report, Wishes
    from embedstream.console.parts import Pipeline
    from embedstream.display import Watch

logger = logging.getLogger(__name__)

routes = Blueprint("auditing", __name__)

KINDS = {
    "orphan": "a row, or an entry of the ledger, that no record of the topic explains",
    "missing": "the row is not there, or the ledger has no entry",
    "undeleted": "the newest version is a delete, but the row is there",
    "older_mapping": "not as the mapping has it, but of a record from before the mapping changed",
    "stale": "an older version, or one that never was",
    "wrong_space": "the row's model is not the table's",
    "bad_vector": "the vector is not one of the row's text",
    "bad_chunks": "the chunks are not those that the text gives",
    "changed": "source, metadata or time are not those of the message",
    "moved": "places in the ledger are those of another topic",
    "beside": "of the table that a migration keeps beside: another text, another source, a vector that is not its own",
    "lost": "came into the ledger once, and are gone from it",
    "unexplained": "a record that cannot be decoded and has no dead letter",
}
_MOST_SAMPLED = 10_000


class Audited(NamedTuple):
    """The last report of a pipeline, what was asked for, and when it was done."""

    report: Report
    wishes: Wishes
    at: datetime

    @property
    def name(self) -> str:
        """By which a repair says which report it is about."""
        return self.at.isoformat()

    @property
    def may_be_repaired(self) -> bool:
        """There is something that a repair would do, and it was shown."""
        repair = self.report.repair
        return bool(repair and repair.dry_run and repair.resent + repair.removed_rows + repair.removed_orphans)


@routes.get("/audit")
def audit() -> str:
    return render_template("audit.html", most_sampled=_MOST_SAMPLED, **_facts())


@routes.get("/parts/audit")
def audit_part() -> str:
    return render_template("parts/audit.html", **_facts())


def _facts() -> dict[str, object]:
    chosen = pipeline()
    return {
        "task": parts().tasks.last(_key(chosen)),
        "last": parts().audits.get(chosen.name),
        "kinds": KINDS,
        "command": lambda wishes: f"embedstream audit{_options(wishes)}{chosen.option}",
    }


@routes.post("/audit")
def run() -> Response:
    """It only reads; but it takes from the pipeline's machines what a reader may not."""
    need_writer()
    return _start(proving.Wishes(sample=_sample(), dry_run="dry_run" in request.form))


@routes.post("/audit/repair")
def repair() -> Response:
    need_writer()
    last = parts().audits.get(pipeline().name)
    if last is None or not last.may_be_repaired or request.form.get("of") != last.name:
        message = "what a repair would do is not shown any more, or there is a newer report: do a dry run first"
        raise Problem(HTTPStatus.CONFLICT, "not_shown", message)
    return _start(proving.Wishes(sample=last.wishes.sample, repair=True))


@routes.post("/audit/cancel")
def cancel() -> Response:
    need_writer()
    parts().tasks.cancel(_key(pipeline()))
    return _back()


def _start(wishes: Wishes) -> Response:
    chosen, audits = pipeline(), parts().audits
    try:
        parts().tasks.start(_key(chosen), _work(chosen, wishes, audits), alone=True)
    except Busy as exc:
        message = f"an audit of {chosen.name} runs: wait for its end, or cancel it"
        raise Problem(HTTPStatus.CONFLICT, "busy", message) from exc
    logger.info("audit of %s begins%s", chosen.name, _options(wishes))
    return _back()


def _work(chosen: Pipeline, wishes: Wishes, audits: dict[str, Audited]) -> Callable[[Watch], Report]:
    def work(watch: Watch) -> Report:
        report = proving.audit(chosen.settings, wishes, watch)
        audits[chosen.name] = Audited(report, wishes, datetime.now(UTC))
        logger.info("audit of %s: %s%s", chosen.name, report.verdict, f"; {report.repair}" if report.repair else "")
        return report

    return work


def _back() -> Response:
    return redirect(url_for("auditing.audit", pipeline=request.args.get("pipeline")), HTTPStatus.SEE_OTHER)


def _key(chosen: Pipeline) -> str:
    return f"audit {chosen.name}"


def _sample() -> int:
    given = request.form.get("sample") or "0"
    if not (given.isdecimal() and int(given) <= _MOST_SAMPLED):
        raise ConfigError(f"rows to embed again: write a number from 0 to {_MOST_SAMPLED:,}")
    return int(given)


def _options(wishes: Wishes) -> str:
    words = [f"--sample {wishes.sample}"] if wishes.sample else []
    words += ["--repair"] if wishes.repair else ["--dry-run"] if wishes.dry_run else []
    return "".join(f" {word}" for word in words)
