"""Style sheets and scripts: at addresses that change with their content, and small on their way."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from flask import request, url_for

if TYPE_CHECKING:
    from flask import Flask, Response

_STATIC = Path(__file__).parent / "static"
_FOR_A_YEAR = "public, max-age=31536000, immutable"


def install(app: Flask) -> None:
    app.jinja_env.globals["asset"] = _asset
    app.after_request(_keep)
    app.after_request(_pack)


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]


def _asset(name: str) -> str:
    """The address changes with the content, so that browsers may keep it."""
    return url_for("static", filename=name, v=_digest(name))


def _keep(response: Response) -> Response:
    if request.endpoint == "static" and "v" in request.args:
        response.headers["Cache-Control"] = _FOR_A_YEAR
    return response


def _pack(response: Response) -> Response:
    """A whole file for who takes gzip; its ETag is that of the file as it lies there."""
    if request.endpoint == "static" and response.status_code == HTTPStatus.OK:
        response.vary.add("Accept-Encoding")
        if request.accept_encodings["gzip"]:
            response.close()  # the file, which nobody reads
            response.direct_passthrough = False
            response.set_data(_packed(str((request.view_args or {})["filename"])))
            response.headers["Content-Encoding"] = "gzip"
            del response.headers["ETag"]
    return response


@cache
def _packed(name: str) -> bytes:
    return gzip.compress((_STATIC / name).read_bytes(), mtime=0)
