"""The page of the table's indexes: what they are, building and dropping them, and what the vector index misses."""

from __future__ import annotations

import logging
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from flask import Blueprint, current_app, redirect, render_template, request, url_for

from embedstream.console.guard import need_writer
from embedstream.console.parts import parts, pipeline
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.index import build, recall
from embedstream.index.seen import Seen, see
from embedstream.index.state import KINDS, NAMES, WITHOUT, command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask.blueprints import BlueprintSetupState
    from werkzeug.wrappers import Response

    from embedstream.console.parts import Pipeline
    from embedstream.console.tasks import Task
    from embedstream.display import Watch
    from embedstream.index.state import Index, Kind
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)
routes = Blueprint("indexing", __name__)

_KEPT_FOR = 1.0
_END_SECONDS = 10.0
_MOST_ROWS = 1000
_MOST_CANDIDATES = 1000


class _Looks:
    """One look a second at each table, however many ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, list[Seen] | EmbedstreamError]] = {}

    def of(self, chosen: Pipeline) -> list[Seen]:
        with self._lock:
            at, found = self._kept.get(chosen.name, (0.0, []))
            if not at or time.monotonic() - at > _KEPT_FOR:
                found = _look(chosen.settings)
                self._kept[chosen.name] = time.monotonic(), found
        if isinstance(found, EmbedstreamError):
            raise found
        return found

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()


def _look(settings: Settings) -> list[Seen] | EmbedstreamError:
    try:
        return see(settings)
    except EmbedstreamError as exc:
        return exc


@routes.record
def _install(state: BlueprintSetupState) -> None:
    state.app.extensions["looks"] = _Looks()
    state.app.jinja_env.globals.update(index_names=NAMES, without_index=WITHOUT, index_command=command)


def _looks() -> _Looks:
    return cast("_Looks", current_app.extensions["looks"])


@routes.get("/index")
def index() -> str:
    return render_template("index.html", recall=_last("recall"), defaults=recall)


@routes.get("/parts/index")
def index_part() -> str:
    seen: list[Seen] = []
    error = ""
    try:
        seen = _looks().of(pipeline())
    except EmbedstreamError as exc:
        error = str(exc)
    works = {kind: [task for verb in ("build", "drop") if (task := _last(verb, kind))] for kind in KINDS}
    return render_template("parts/index.html", seen=seen, error=error, works=works)


@routes.post("/index/build")
def build_index() -> Response:
    need_writer()
    chosen, kind = pipeline(), _kind(request.args)
    logger.info("building the %s of table %s", NAMES[kind], chosen.settings.pgvector_table)

    def work(watch: Watch) -> Index:
        with watch(f"building the {NAMES[kind]}", None) as update:
            return build.build(chosen.settings, lambda found: update(found.tuples or 0), kind=kind)

    return _begun("build", kind, work)


@routes.post("/index/stop")
def stop_build() -> Response:
    need_writer()
    parts().tasks.cancel(_key("build", _kind(request.args)))
    return _back()


@routes.get("/index/drop")
def ask_to_drop() -> str:
    return render_template("index_drop.html", kind=_kind(request.args))


@routes.post("/index/drop")
def drop_index() -> Response:
    need_writer()
    chosen, kind = pipeline(), _kind(request.args)
    logger.info("dropping the %s of table %s", NAMES[kind], chosen.settings.pgvector_table)
    under_way = _last("build", kind)
    parts().tasks.cancel(_key("build", kind))

    def work(watch: Watch) -> Index:
        with watch(f"dropping the {NAMES[kind]}", None):
            _wait_for(under_way)
            return build.drop(chosen.settings, kind)

    return _begun("drop", kind, work)


@routes.get("/parts/recall")
def recall_part() -> str:
    return render_template("parts/recall.html", recall=_last("recall"))


@routes.post("/parts/recall")
def measure_recall() -> str:
    """Readers may: it looks, however much it looks at."""
    chosen = pipeline()
    try:
        k = _number("k", recall.NEAREST, _MOST_CANDIDATES)
        rows = _number("rows", recall.ROWS, _MOST_ROWS)
        ef_search = _number("ef_search", 0, _MOST_CANDIDATES) or None
    except ConfigError as exc:
        return render_template("parts/recall.html", recall=_last("recall"), error=str(exc))

    def work(watch: Watch) -> recall.Recall:
        find = chosen.searcher.search
        return recall.measure(chosen.settings, find, k=k, queries=rows, ef_search=ef_search, watch=watch)

    return render_template("parts/recall.html", recall=parts().tasks.start(_key("recall"), work))


@routes.post("/parts/recall/stop")
def stop_recall() -> str:
    parts().tasks.cancel(_key("recall"))
    return recall_part()


def _key(verb: str, kind: Kind | None = None) -> str:
    return f"index {verb} {kind} {pipeline().name}"


def _last(verb: str, kind: Kind | None = None) -> Task | None:
    return parts().tasks.last(_key(verb, kind))


def _begun(verb: str, kind: Kind, work: Callable[[Watch], Index]) -> Response:
    parts().tasks.start(_key(verb, kind), work)
    _looks().forget()
    return _back()


def _back() -> Response:
    return redirect(url_for("indexing.index", pipeline=request.args.get("pipeline")), HTTPStatus.SEE_OTHER)


def _wait_for(task: Task | None) -> None:
    """The end of a build that this console began: it is told to be stopped, not that somebody cancelled it."""
    deadline = time.monotonic() + _END_SECONDS
    while task and task.is_running and time.monotonic() < deadline:
        time.sleep(0.1)


def _kind(form: Mapping[str, str]) -> Kind:
    for kind in KINDS:
        if form.get("kind") == kind:
            return kind
    raise ConfigError(f"kind {form.get('kind')!r}: there are {', '.join(KINDS)}")


def _number(name: str, default: int, most: int) -> int:
    given = request.form.get(name, "").strip()
    if not given:
        return default
    if not given.isdecimal() or not 1 <= int(given) <= most:
        raise ConfigError(f"{name} {given!r}: write a number from 1 to {most:,}")
    return int(given)
