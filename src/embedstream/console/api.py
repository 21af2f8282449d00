"""For programs: `POST /v1/search`, and whether the console lives."""

from __future__ import annotations

import time
from dataclasses import asdict
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from embedstream.console.parts import Pipeline, parts
from embedstream.display import as_json
from embedstream.search.request import request_of
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from embedstream.search.answer import Answer, Hit

routes = Blueprint("api", __name__)


@routes.post("/v1/search")
def search() -> Response:
    began = time.perf_counter()
    facts = _body()
    name = facts.pop("pipeline", None)
    if not isinstance(name, str | None):
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_request", "pipeline: it is a string")
    answer = parts().chosen(name).search(request_of(facts))
    return _json(as_facts(answer, began, hides_texts=parts().settings.console_hide_texts))


@routes.get("/v1/pipelines")
def pipelines() -> Response:
    return _json({"pipelines": [_pipeline(each) for each in parts().pipelines.values()]})


@routes.get("/health")
def health() -> Response:
    """Of the console alone: what it shows may be ill."""
    return _json({"status": "ok"})


@routes.get("/openapi.json")
def openapi() -> Response:
    return Response(files(__package__).joinpath("openapi.json").read_bytes(), content_type="application/json")


@routes.route("/mcp", methods=["GET", "POST"])
def mcp() -> Response:
    """Asked only where the tools are not installed: else they stand before this (see entrance)."""
    message = "agents need a library that is not installed here: pip install 'embedstream[mcp]', and start it again"
    raise Problem(HTTPStatus.NOT_FOUND, "not_installed", message)


def as_facts(answer: Answer, began: float, *, hides_texts: bool) -> dict[str, Any]:
    """The answer of /v1/search; `took_ms` is all of it, `steps_ms` its parts."""
    return {
        "hits": [_hit(hit, hides_texts=hides_texts) for hit in answer.hits],
        "method": answer.method,
        "complete": answer.complete,
        "as_of": answer.as_of,
        "took_ms": round(1000 * (time.perf_counter() - began), 1),
        "steps_ms": answer.took_ms,
        "next_offset": answer.next_offset,
    }


def _hit(hit: Hit, *, hides_texts: bool) -> dict[str, Any]:
    facts = asdict(hit)
    facts |= {"chunk": hit.chunk and hit.chunk._asdict(), "places": hit.places._asdict()}
    if hides_texts:
        facts |= {"text": None, "highlights": [], "characters": len(hit.text)}
    return facts


def _pipeline(each: Pipeline) -> dict[str, Any]:
    return {
        "name": each.name, "topic": each.settings.kafka_input_topic, "table": each.settings.pgvector_table,
        "dead_letters": each.settings.kafka_dead_letter_topic,
    }  # fmt: skip


def _body() -> dict[str, Any]:
    if not request.is_json:
        message = "the body must have the content type application/json"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_application_json", message)
    try:
        facts = orjson.loads(request.get_data(cache=False))
    except orjson.JSONDecodeError as exc:
        raise Problem(HTTPStatus.BAD_REQUEST, "not_json", f"the body is no JSON: {exc}") from None
    if not isinstance(facts, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_request", "the body must be a JSON object")
    return facts


def _json(facts: dict[str, Any]) -> Response:
    """Written by Python: integers of any size, as metadata may have them, stay what they are."""
    return Response(as_json(facts, indent=None), content_type="application/json")
