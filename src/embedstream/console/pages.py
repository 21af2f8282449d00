"""The pages that only look: overview, search, message, doctor, settings."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request, url_for
from markupsafe import Markup
from pydantic import SecretStr

from embedstream import doctor as examining
from embedstream.console.parts import parts, pipeline
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.journey.scan import Bounds
from embedstream.journey.trace import journey
from embedstream.search.answer import marked
from embedstream.search.conditions import as_filter, parse_where
from embedstream.search.options import moment
from embedstream.search.request import request_of

if TYPE_CHECKING:
    from embedstream.display import Watch
    from embedstream.doctor.check import Finding
    from embedstream.journey.report import Journey
    from embedstream.search.answer import Hit
    from embedstream.search.request import Request

routes = Blueprint("pages", __name__)

_EXAMINED_FOR = 30.0
_TRACED_FOR = 5.0
_TRACED_RECORDS = 100_000
_PAGE = 10


@routes.get("/")
def overview() -> str:
    return render_template("overview.html", reading=pipeline().watcher.latest())


@routes.get("/parts/overview")
def overview_part() -> str:
    return render_template("parts/overview.html", reading=pipeline().watcher.latest())


@routes.get("/parts/history")
def history() -> Response:
    """The charts' points: seconds since the epoch, rows a second, unread messages, age of the oldest."""
    points = pipeline().watcher.points()
    columns = [list(column) for column in zip(*points, strict=True)] or [[], [], [], []]
    return Response(json.dumps(columns), content_type="application/json")


@routes.get("/search")
def search() -> str:
    """Of what cannot be looked for the page says why, beside the form as it was filled in."""
    form = request.args
    found, error, took = None, "", 0.0
    if form.get("q") or form.get("like"):
        began = time.perf_counter()
        try:
            found = pipeline().search(_asked())
        except EmbedstreamError as exc:
            error = str(exc)
        took = 1000 * (time.perf_counter() - began)
    return render_template(
        "search.html", form=form, answer=found, error=error, took=took, page=_PAGE, marked=_marked,
        page_url=_page_url,
    )  # fmt: skip


def _asked() -> Request:
    form = request.args
    facts: dict[str, Any] = {
        "query": form.get("q") or None,
        "id": form.get("like") or None,
        "mode": form.get("mode") or "hybrid",
        "k": _PAGE,
        "offset": _page() * _PAGE,
        "where": as_filter(parse_where(line for line in form.get("where", "").splitlines() if line.strip())),
        "after": moment("after", form.get("after")),
        "before": moment("before", form.get("before")),
        "group_by": "document" if form.get("by") == "document" else None,
        "exact": "exact" in form,
        "highlight": True,
    }
    if facts["id"]:
        facts |= {"query": None, "mode": "semantic"}
    return request_of(facts)


def _marked(hit: Hit) -> Markup:
    return Markup(marked(hit.text, hit.highlights))  # noqa: S704 - `marked` escapes all but its own tags


def _page_url(step: int) -> str:
    values = {**request.args.to_dict(), "page": str(max(0, _page() + step))}
    return f"{url_for('pages.search')}?{urlencode(values)}"


def _page() -> int:
    given = request.args.get("page") or "0"
    if not given.isdecimal():
        raise ConfigError(f"page {given!r}: write a number from 0 on")
    return int(given)


@routes.get("/message/")
@routes.get("/message/<path:id>")
def message(id: str = "") -> str:
    return render_template("message.html", id=id or request.args.get("id", ""))


@routes.get("/parts/message")
def message_part() -> str:
    id, everything = request.args.get("id", ""), "all" in request.args
    chosen = pipeline()
    bounds = Bounds(limit=None, everywhere=True) if everything else Bounds(limit=_TRACED_RECORDS)

    def trace(watch: Watch) -> Journey:
        return journey(chosen.settings, id, bounds, watch)

    key = f"message {chosen.name} {everything} {id}"
    return render_template("parts/message.html", id=id, task=parts().tasks.ensure(key, trace, _TRACED_FOR))


@routes.get("/doctor")
def doctor() -> str:
    return render_template("doctor.html")


@routes.get("/parts/doctor")
def doctor_part() -> str:
    chosen = pipeline()

    def examine(_: Watch) -> list[Finding]:
        return examining.examine(chosen.settings)

    seconds = 0.0 if "again" in request.args else _EXAMINED_FOR
    task = parts().tasks.ensure(f"doctor {chosen.name}", examine, seconds)
    return render_template("parts/doctor.html", task=task)


@routes.get("/settings")
def settings() -> str:
    chosen = pipeline().settings
    fields = type(chosen).model_fields
    rows = [
        (name.upper(), _setting(value), fields[name].description or "", value != fields[name].default)
        for name, value in chosen
        if name != "decoding"
    ]
    return render_template("settings.html", rows=rows)


def _setting(value: object) -> str:
    if value is None:
        return "not set"
    return "set (hidden)" if isinstance(value, SecretStr) else str(value)
