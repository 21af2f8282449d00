"""What the service answers when it has no vectors."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response

from embedstream.errors import EmbedstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.exceptions import HTTPException


class Problem(EmbedstreamError):
    """An answer other than 200: `code` is stable and meant for programs, `message` is one sentence for people that
    quotes no text, `index` is the position of the text that is to blame, `retry_after` is in seconds.
    """

    def __init__(
        self, status: HTTPStatus, code: str, message: str, index: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.index = index
        self.retry_after = retry_after

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": str(self), "index": self.index}


def answer(problem: Problem, facts: Mapping[str, Any] | None = None) -> Response:
    """The response to a request that cannot be served, with `facts` beside the error."""
    response = json_response({**(facts or {}), "error": problem.as_dict()}, problem.status)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(problem.retry_after))
    return response


def of_http(exc: HTTPException) -> Problem:
    """The problem that Flask or werkzeug found."""
    status = HTTPStatus(exc.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    return Problem(status, status.name.lower(), exc.description or status.phrase)


def keep_headers(response: Response, exc: HTTPException) -> Response:
    """What belongs to it, as Allow does to 405."""
    for name, value in exc.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def json_response(body: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    """The body as JSON; it may hold contiguous arrays of numpy."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)
    return Response(content, status, content_type="application/json")
