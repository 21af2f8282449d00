"""What surrounds every request: its id, the API key, counting, logging."""

from __future__ import annotations

import itertools
import logging
import re
import time
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import g, request

from embedstream.web.door import REFUSAL, WAITING, Waiting
from embedstream.web.keys import is_bearer_of
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from flask import Flask, Response
    from pydantic import SecretStr

    from embedstream.service.metrics import Metrics

logger = logging.getLogger(__name__)

_USABLE_ID = re.compile(r"[!-~]{1,128}")
_WITHOUT_KEY = "/health"

# A random number for each request would cost it a wait: reading one lets go of the interpreter's lock.
_PROCESS = uuid.uuid4().hex[:16]
_NUMBERS = itertools.count(1)


def install(app: Flask, key: SecretStr | None, metrics: Metrics) -> None:
    """Let each request to the application be noted, checked and counted."""

    def check_key() -> None:
        if key and request.path.rstrip("/") != _WITHOUT_KEY and not is_bearer_of(request, key.get_secret_value()):
            message = "the request has no, or another, key: send EMBEDDING_API_KEY as Authorization: Bearer"
            raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", message)

    def count(response: Response) -> Response:
        if waits():
            return response
        path = request.url_rule.rule if request.url_rule else "other"
        metrics.count_request(path, response.status_code, g.get("code"))
        return response

    app.before_request(_begin)
    app.before_request(check_key)
    app.before_request(_refuse_what_was_not_read)
    app.after_request(count)
    app.after_request(_name)
    app.after_request(_log)


def in_log() -> dict[str, str]:
    """What every line about the current request says of it."""
    return {"request_id": g.request_id}


def waits() -> bool:
    """Whether this is no answer yet: the application will be asked again."""
    waiting = request.environ.get(WAITING)
    return not g.again and waiting is not None and waiting.future is not None


def _begin() -> None:
    waiting = request.environ.get(WAITING) or Waiting()
    g.again = waiting.began is not None
    waiting.began = waiting.began or (time.perf_counter(), _request_id())
    g.started, g.request_id = waiting.began


def _request_id() -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _USABLE_ID.fullmatch(given) else f"{_PROCESS}-{next(_NUMBERS)}"


def _refuse_what_was_not_read() -> None:
    if problem := request.environ.get(REFUSAL):
        raise problem


def _name(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _log(response: Response) -> Response:
    if logger.isEnabledFor(logging.DEBUG) and not waits():
        milliseconds = 1000 * (time.perf_counter() - g.started)
        message = "%s %s %d %.1f ms"
        logger.debug(message, request.method, request.path, response.status_code, milliseconds, extra=in_log())
    return response
