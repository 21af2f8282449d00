"""The console as a WSGI application."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from embedstream.console import api, assets, atlas, auditing, indexing, letters, metrics, pages, pipelines, shown
from embedstream.console.guard import Guard, is_of_a_program
from embedstream.errors import EmbedstreamError, RetryLater
from embedstream.search.problem import NotReached
from embedstream.web.problem import Problem, answer, keep_headers, of_http

if TYPE_CHECKING:
    from flask import Response

    from embedstream.console.parts import Parts

logger = logging.getLogger(__name__)


def create_app(parts: Parts) -> Flask:
    """Pages, and the API under /v1, over pipelines that somebody else starts and closes."""
    app = Flask(__name__)
    app.extensions.update(parts=parts, metrics=metrics.Metrics(parts))
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    Guard(parts.settings).install(app)
    shown.install(app)
    assets.install(app)
    for each in (pages, letters, auditing, indexing, atlas, pipelines, api, metrics):
        app.register_blueprint(each.routes)
    app.register_error_handler(Problem, _refuse)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(EmbedstreamError, _explain)
    app.register_error_handler(Exception, _unexpected)
    return app


def _is_of_a_person() -> bool:
    return not is_of_a_program() and request.accept_mimetypes.accept_html


def _refuse(problem: Problem) -> Response | tuple[str, HTTPStatus]:
    if not _is_of_a_person():
        return answer(problem)
    return render_template("problem.html", message=str(problem), status=problem.status), problem.status


def _explain(exc: EmbedstreamError) -> Response | tuple[str, HTTPStatus]:
    """What the outside world, or the request, is to blame for."""
    match exc:
        case NotReached():
            problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_reached", str(exc), retry_after=1.0)
        case RetryLater():
            seconds = exc.retry_after or 1.0
            problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(exc), retry_after=seconds)
        case _:
            problem = Problem(HTTPStatus.BAD_REQUEST, "invalid_request", str(exc))
    return _refuse(problem)


def _http_problem(exc: HTTPException) -> Response:
    return keep_headers(make_response(_refuse(of_http(exc))), exc)


def _unexpected(exc: Exception) -> Response | tuple[str, HTTPStatus]:
    logger.error("%s %s failed", request.method, request.path, exc_info=exc)
    message = "the console failed; its log says more"
    return _refuse(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", message))
