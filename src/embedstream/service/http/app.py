"""The HTTP side of the embedding service."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson
from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from werkzeug.exceptions import HTTPException

import embedstream
from embedstream.errors import RetryLater
from embedstream.service.batching import Draining, EngineFailed, NothingToEmbed, QueueFull
from embedstream.service.embedder import Loading
from embedstream.service.engine.names import is_on_hub
from embedstream.service.http import hooks
from embedstream.service.http.openai import answer_of, check_name, model_of, read_embeddings
from embedstream.service.http.wire import Limits, One, as_base64, read_generate
from embedstream.service.metrics import is_truncated
from embedstream.service.remote.errors import Standstill, TextRefused
from embedstream.web.door import WAITING
from embedstream.web.problem import Problem, answer, json_response, keep_headers, of_http

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.errors import EmbedstreamError
    from embedstream.service.batching import Embedded
    from embedstream.service.embedder import Embedder
    from embedstream.service.engine.protocol import EngineFacts
    from embedstream.service.engine.tokens import Text
    from embedstream.service.http.wire import Encoding
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

routes = Blueprint("embedding", __name__)

_SHORT_SECONDS = 0.02


class _Context:
    """What the routes need of their application."""

    def __init__(self, embedder: Embedder, limits: Limits, settings: Settings) -> None:
        self.embedder = embedder
        self.limits = limits
        self.settings = settings


def create_app(embedder: Embedder, settings: Settings) -> Flask:
    """The WSGI application over an embedder, which may still be loading."""
    limits = Limits(
        max_texts=min(settings.embedding_max_texts, settings.embedding_queue_texts),
        max_text_bytes=settings.max_text_bytes,
        max_request_bytes=settings.embedding_max_request_bytes,
        queue_texts=settings.embedding_queue_texts,
        requests=embedder.requests,
    )
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = limits.max_request_bytes
    app.extensions["embedstream"] = _Context(embedder, limits, settings)
    app.url_map.strict_slashes = False
    app.register_blueprint(routes)
    hooks.install(app, settings.embedding_api_key, embedder.metrics)
    app.register_error_handler(Problem, _refuse)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _unexpected)
    for kind in (QueueFull, Draining, Loading, Standstill, EngineFailed, NothingToEmbed, TextRefused):
        app.register_error_handler(kind, _embedder_problem)
    return app


def _context() -> _Context:
    return cast("_Context", current_app.extensions["embedstream"])


@routes.post("/generate")
def generate() -> Response:
    return _embedded(_asked_of_generate)


@routes.post("/v1/embeddings")
def embeddings() -> Response:
    return _embedded(_asked_of_openai)


class _Asked(NamedTuple):
    texts: Sequence[Text]
    answer: Callable[[Embedded], dict[str, Any]]


def _asked_of_generate(context: _Context) -> _Asked:
    facts = context.embedder.facts
    asked = read_generate(_body(context), context.limits, facts.model_name)
    if isinstance(asked, One):
        return _Asked([asked.text], partial(_one, asked, facts))
    return _Asked(asked.texts, partial(_many, asked.encoding, facts))


def _asked_of_openai(context: _Context) -> _Asked:
    facts = context.embedder.facts
    token_ids = context.settings.embedding_accept_token_ids
    asked = read_embeddings(_body(context), context.limits, context.embedder.engine, token_ids=token_ids)
    return _Asked(asked.texts, partial(answer_of, facts=facts, encoding=asked.encoding))


def _embedded(read: Callable[[_Context], _Asked]) -> Response:
    """The answer with vectors, or an empty one that stands for it where the door waits for them."""
    context, waiting = _context(), request.environ.get(WAITING)
    if waiting and waiting.future:
        pending, answer = waiting.asked
    else:
        asked = read(context)
        pending, answer = context.embedder.submit(asked.texts), asked.answer
        # To be asked again costs more than a short wait.
        if waiting and not pending.done_within(_SHORT_SECONDS):
            waiting.future, waiting.asked = pending.settled, (pending, answer)
            return Response(status=HTTPStatus.ACCEPTED)
    return json_response(answer(context.embedder.result(pending)))


def _body(context: _Context) -> bytes:
    context.embedder.check_ready()
    if not request.is_json:
        message = "the body must have the content type application/json"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_application_json", message)
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        message = "the body's Content-Encoding is not known: send it as gzip, or as it is"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown_content_encoding", message)
    return request.get_data(cache=False)


def _one(asked: One, facts: EngineFacts, embedded: Embedded) -> dict[str, Any]:
    [count] = embedded.token_counts
    return {
        "id": asked.echo["id"],
        "text": asked.text,
        "embedding": embedded.vectors[0],
        "embedding_dimension": facts.embedding_dimension,
        "model_name": facts.model_name,
        "model_revision": facts.model_revision,
        "source": asked.echo["source"],
        "embedding_timestamp": datetime.now(UTC),
        "metadata": asked.echo["metadata"],
        "token_count": count,
        "truncated": is_truncated(count, facts.max_tokens),
        "unknown_tokens": embedded.unknown_tokens[0],
    }


def _many(encoding: Encoding, facts: EngineFacts, embedded: Embedded) -> dict[str, Any]:
    return {
        "model_name": facts.model_name,
        "model_revision": facts.model_revision,
        "embedding_dimension": facts.embedding_dimension,
        "embeddings": as_base64(embedded.vectors) if encoding == "base64" else embedded.vectors,
        "token_counts": embedded.token_counts,
        "truncated": [is_truncated(count, facts.max_tokens) for count in embedded.token_counts],
        "unknown_tokens": embedded.unknown_tokens,
    }


@routes.get("/v1/models")
def models() -> Response:
    return json_response({"object": "list", "data": [model_of(_context().embedder)]})


@routes.get("/v1/models/<path:name>")
def model(name: str) -> Response:
    embedder = _context().embedder
    check_name(name.rstrip("/"), embedder.facts.model_name)
    return json_response(model_of(embedder))


@routes.get("/health")
def health() -> Response:
    embedder = _context().embedder
    state: dict[str, Any] = {"status": embedder.status}
    if embedder.status == "loading":
        state["progress"] = embedder.progress.facts()
    try:
        state |= asdict(embedder.facts)
        state["queue_texts"] = embedder.queue_length
        embedder.check_ready()
    except (Loading, Draining, Standstill) as exc:
        return answer(_problem_of(exc), state)
    return json_response(state)


@routes.get("/info")
def info() -> Response:
    context = _context()
    engine, opened = context.embedder.engine, context.embedder.remote
    return json_response(
        {
            "version": embedstream.__version__,
            **asdict(engine.facts),
            "hub_revision": _revision_asked(context.settings, engine.facts),
            "threads": engine.workers,
            "limits": context.limits._asdict(),
            **({"remote": opened.shown(context.settings)} if opened else {}),
        }
    )


def _revision_asked(settings: Settings, facts: EngineFacts) -> str | None:
    """The branch, tag or commit of a model on the Hub."""
    if not facts.hub_commit:
        return None
    return settings.embedding_model_revision or ("main" if is_on_hub(settings) else facts.hub_commit)


@routes.get("/canary")
def canary() -> Response:
    embedder = _context().embedder
    facts, opened = embedder.facts, embedder.remote
    if opened is None:
        message = f"{facts.model_name} runs here, and its revision says all: no fixed texts are embedded"
        raise Problem(HTTPStatus.NOT_FOUND, "no_canary", message)
    return json_response(
        {
            "model_name": facts.model_name,
            "model_revision": facts.model_revision,
            "embedding_dimension": facts.embedding_dimension,
            "embeddings": as_base64(opened.watch.vectors),
        }
    )


@routes.get("/tokenizer")
def tokenizer() -> Response:
    engine = _context().embedder.engine
    if engine.tokenizer is None:
        message = f"{engine.facts.model_name} runs without a tokenizer of its own: nobody can cut texts to its size"
        raise Problem(HTTPStatus.NOT_FOUND, "no_tokenizer", message)
    content, max_tokens, reserved_tokens = engine.tokenizer
    response = json_response(
        {
            "model_name": engine.facts.model_name,
            "model_revision": engine.facts.model_revision,
            "max_tokens": max_tokens,
            "reserved_tokens": reserved_tokens,
            "tokenizer": orjson.Fragment(content),
        }
    )
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest())
    response.make_conditional(request)
    return response


@routes.get("/metrics")
def metrics() -> Response:
    return Response(_context().embedder.metrics.render(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


@routes.get("/openapi.json")
def openapi() -> Response:
    return Response(files(__package__).joinpath("openapi.json").read_bytes(), content_type="application/json")


def _problem_of(exc: EmbedstreamError) -> Problem:
    match exc:
        case RetryLater():
            return _problem_for_now(exc)
        case TextRefused():
            return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, exc.code, str(exc), exc.index)
        case NothingToEmbed():
            return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"text_{exc.unseen}", str(exc), exc.index)
        case EngineFailed():
            return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "engine_failed", str(exc), exc.index)
        case _:
            raise exc


def _problem_for_now(exc: RetryLater) -> Problem:
    match exc:
        case QueueFull():
            status, code = HTTPStatus.TOO_MANY_REQUESTS, "queue_full"
        case Draining():
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "draining"
        case Standstill():
            status, code = exc.status, exc.code
        case _:
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "loading"
    return Problem(status, code, str(exc), retry_after=exc.retry_after)


def _refuse(problem: Problem) -> Response:
    g.code = problem.code
    return answer(problem)


def _embedder_problem(exc: EmbedstreamError) -> Response:
    problem = _problem_of(exc)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s %s failed: %s", request.method, request.path, exc, extra=hooks.in_log())
    return _refuse(problem)


def _http_problem(exc: HTTPException) -> Response:
    return keep_headers(_refuse(of_http(exc)), exc)


def _unexpected(exc: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.path, exc_info=exc, extra=hooks.in_log())
    message = "the service failed; its log says more"
    return _refuse(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", message))
