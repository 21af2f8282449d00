"""The map: a sample of the rows in two dimensions, near to each other where they mean the same."""

from __future__ import annotations

import base64
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, render_template, request, send_from_directory

from embedstream.console.parts import parts, pipeline
from embedstream.display import as_json
from embedstream.errors import EmbedstreamError
from embedstream.search import neighbours
from embedstream.search.request import request_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embedstream.display import Watch
    from embedstream.search.neighbours import Neighbours, Point

routes = Blueprint("atlas", __name__)

_KEPT_FOR = 600.0
_FAILED_FOR = 5.0
_HITS = 100
_MOST_VALUES = 8
_MOST_FIELDS = 20
_LONGEST_VALUE = 60
# What lays the points out is WebAssembly, which comes as a data: address; it runs in a worker that has this policy, so
# that no page needs it.
_LAYOUT_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' data:"


@routes.get("/map")
def shown() -> str:
    return render_template("map.html")


@routes.get("/map/layout.js")
def layout() -> Response:
    response = send_from_directory(Path(__file__).parent / "static", "layout.js")
    response.headers["Content-Security-Policy"] = _LAYOUT_POLICY
    return response


@routes.get("/map/points")
def points() -> tuple[Response, HTTPStatus]:
    """How far it is (202), or the points, their neighbours, and what they can be coloured by."""
    chosen = pipeline()

    def work(watch: Watch) -> str:
        with watch("looking for the neighbours of each row", neighbours.MOST) as update:
            found = neighbours.read(chosen.settings, update)
        return as_json(facts_of(found, hides_texts=chosen.settings.console_hide_texts), indent=None)

    key = f"map {chosen.name}"
    last = parts().tasks.last(key)
    task = parts().tasks.ensure(key, work, _KEPT_FOR if last and last.state == "done" else _FAILED_FOR)
    if task.is_running:
        facts = {"doing": task.doing or "reading a sample of the rows", "done": task.done}
        return _json(as_json(facts)), HTTPStatus.ACCEPTED
    if task.error:
        return _json(as_json({"error": task.error})), HTTPStatus.SERVICE_UNAVAILABLE
    return _json(task.result), HTTPStatus.OK


@routes.get("/map/hits")
def hits() -> tuple[Response, HTTPStatus]:
    """The ids of what a search by meaning finds."""
    try:
        answer = pipeline().search(request_of({"query": request.args.get("q", ""), "k": _HITS}))
    except EmbedstreamError as exc:
        return _json(as_json({"error": str(exc)})), HTTPStatus.SERVICE_UNAVAILABLE
    return _json(as_json({"ids": [hit.id for hit in answer.hits]}, indent=None)), HTTPStatus.OK


def facts_of(found: Neighbours, *, hides_texts: bool) -> dict[str, Any]:
    """For the script: arrays of numbers are base64 of their bytes, little-endian."""
    return {
        "rows": found.rows,
        "ids": [point.id for point in found.points],
        "texts": [_text(point, hides_texts=hides_texts) for point in found.points],
        "fields": fields(found.points),
        "count": found.nearest.shape[1],
        "nearest": _base64(found.nearest.astype("<i4")),
        "distances": _base64(found.distances.astype("<f4")),
    }


def _text(point: Point, *, hides_texts: bool) -> str:
    if hides_texts:
        return f"(hidden, {point.characters:,} characters)"
    return point.text if point.characters <= len(point.text) else f"{point.text}…"


def fields(points: Sequence[Point]) -> dict[str, dict[str, Any]]:
    """Fields of the metadata, and the source, that tell rows apart: the most frequent values, and of each point the
    place of its value in that list, -1 for any other.

    A field with a value of its own for most of the rows, as an id, colours nothing.
    """
    names = Counter(name for point in points for name in point.metadata)
    columns = {name: [_value(point.metadata.get(name)) for point in points] for name, _ in names.most_common()}
    columns["source"] = [_value(point.source) for point in points]
    found = {name: _coloured(values) for name, values in columns.items() if _tells_apart(values)}
    return dict(list(found.items())[:_MOST_FIELDS])


def _tells_apart(values: Sequence[str | None]) -> bool:
    different = {value for value in values if value is not None}
    return 1 < len(different) <= len(values) // 2


def _coloured(values: Iterable[str | None]) -> dict[str, Any]:
    all_ = list(values)
    frequent = Counter(value for value in all_ if value is not None).most_common(_MOST_VALUES)
    places = {value: place for place, (value, _) in enumerate(frequent)}
    return {"values": list(places), "of": [-1 if value is None else places.get(value, -1) for value in all_]}


def _value(value: object) -> str | None:
    """Lists and objects are no colours."""
    match value:
        case None | list() | dict():
            return None
        case bool():
            return str(value).lower()
    return str(value)[:_LONGEST_VALUE]


def _base64(array: NDArray[np.generic]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _json(text: str) -> Response:
    return Response(text, content_type="application/json")
