"""Who may come in, and from where: hosts, keys, and requests that other sites would have a browser send.

- Without a key only names of loopback are answered, so that no name that somebody makes point there is (DNS
  rebinding); the numbers of /metrics have other names, too, as containers have for each other.
- A change is refused where a browser says that it comes from another site: by Sec-Fetch-Site, else by Origin, as the
  OWASP Cross-Site Request Forgery Prevention Cheat Sheet describes Fetch Metadata. The session's cookie is SameSite.
- With CONSOLE_API_KEY, CONSOLE_READ_KEY or both, all else asks for one: as Authorization: Bearer, or at the login page.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from flask import Blueprint, current_app, g, redirect, render_template, request, session, url_for

from embedstream.errors import ConfigError
from embedstream.web.door import REFUSAL
from embedstream.web.keys import is_bearer_of, same
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from flask import Flask, Response
    from pydantic import SecretStr
    from werkzeug.wrappers import Response as BaseResponse

    from embedstream.settings import Settings

Role: TypeAlias = Literal["none", "read", "write"]

routes = Blueprint("guard", __name__)

_OPEN = frozenset({"guard.login", "guard.enter", "static", "api.health"})
_METRICS = "metrics.metrics"
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def check(settings: Settings) -> None:
    """Raises ConfigError where everybody on the network could come in."""
    has_key = settings.console_api_key or settings.console_read_key
    if not (has_key or settings.console_without_key or is_loopback(settings.console_host)):
        raise ConfigError(
            f"CONSOLE_HOST {settings.console_host} is reached from other machines: set CONSOLE_API_KEY (for readers "
            "CONSOLE_READ_KEY), or CONSOLE_WITHOUT_KEY where something else keeps them out"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Watches over one application."""

    def __init__(self, settings: Settings) -> None:
        self._write = _plain(settings.console_api_key)
        self._read = _plain(settings.console_read_key)
        self._checks_host = not self.asks_for_key

    @property
    def asks_for_key(self) -> bool:
        return bool(self._write or self._read)

    def install(self, app: Flask) -> None:
        # Derived, so that who is logged in still is after a restart; without keys nobody logs in.
        keys = f"{self._write} {self._read}" if self.asks_for_key else secrets.token_hex()
        app.secret_key = hashlib.sha256(f"embedstream console {keys}".encode()).digest()
        app.config.update(SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_HTTPONLY=True)
        app.extensions["guard"] = self
        app.before_request(self._let_in)
        app.after_request(_protect)
        app.register_blueprint(routes)

    def role_of(self, key: str) -> Role:
        """What a key allows."""
        if self._write and same(key, self._write):
            return "write"
        return "read" if self._read and same(key, self._read) else "none"

    def role_of_bearer(self, authorization: str) -> Role:
        """What the header of this name allows."""
        if not self.asks_for_key:
            return "write"
        scheme, _, key = authorization.partition(" ")
        return self.role_of(key.strip()) if scheme.lower() == "bearer" else "none"

    def answers_to(self, host: str) -> bool:
        """Whether a request for a host of this name, and port, is meant for this console."""
        return not self._checks_host or _host_name(host) in _LOOPBACK_NAMES

    def _let_in(self) -> BaseResponse | None:
        if problem := request.environ.get(REFUSAL):
            raise problem
        if self._checks_host and not _is_own_name(_host_name(request.host)):
            message = "this console answers to localhost and 127.0.0.1 only: set CONSOLE_API_KEY to use another name"
            raise Problem(HTTPStatus.MISDIRECTED_REQUEST, "host_not_allowed", message)
        bearer = is_bearer_of(request, self._write) or is_bearer_of(request, self._read)
        if request.method in _CHANGES and not bearer and _is_foreign():
            message = "the request comes from a page of another site"
            raise Problem(HTTPStatus.FORBIDDEN, "cross_site", message)
        g.role = self._role()
        if g.role == "none" and request.endpoint not in _OPEN:
            return self._ask_for_key()
        return None

    def _role(self) -> Role:
        if not self.asks_for_key:
            return "write"
        if is_bearer_of(request, self._write) or session.get("role") == "write":
            return "write"
        return "read" if is_bearer_of(request, self._read) or session.get("role") == "read" else "none"

    def _ask_for_key(self) -> BaseResponse:
        if request.method == "GET" and request.accept_mimetypes.accept_html and not is_of_a_program():
            return redirect(url_for("guard.login", next=request.full_path.rstrip("?")))
        message = (
            "send CONSOLE_API_KEY or CONSOLE_READ_KEY as Authorization: Bearer: the request has no key, or another"
        )
        raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", message)


def is_of_a_program() -> bool:
    """Whether no browser asks here, whatever it accepts: Prometheus accepts everything."""
    return request.path.startswith("/v1/") or request.endpoint == _METRICS


def need_writer() -> None:
    """Raises Problem where the current request may only look."""
    if g.role != "write":
        message = "this key may only look: log in with CONSOLE_API_KEY to change something"
        raise Problem(HTTPStatus.FORBIDDEN, "only_reading", message)


@routes.get("/login")
def login() -> str:
    return render_template("login.html", wrong=False)


@routes.post("/login")
def enter() -> BaseResponse | tuple[str, HTTPStatus]:
    role = _guard().role_of(request.form.get("key", ""))
    if role == "none":
        return render_template("login.html", wrong=True), HTTPStatus.FORBIDDEN
    session.clear()
    session["role"] = role
    return redirect(_own_path(request.args.get("next", "/")))


@routes.post("/logout")
def leave() -> BaseResponse:
    session.clear()
    return redirect(url_for("guard.login"))


def _guard() -> Guard:
    return cast("Guard", current_app.extensions["guard"])


def _own_path(wanted: str) -> str:
    """Never to another site: browsers read `//host` and a backslash as one."""
    parts = urlsplit(wanted)
    is_own = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return wanted if is_own else "/"


def _is_foreign() -> bool:
    """Programs that are no browsers send neither header."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return site != "same-origin"
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def _is_own_name(name: str) -> bool:
    """In a network of containers Prometheus asks for its numbers by a name without a dot, such as no foreigner has."""
    return name in _LOOPBACK_NAMES or (
        request.endpoint == _METRICS and re.fullmatch(r"[a-z][a-z0-9-]*", name) is not None
    )


def _host_name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "").lower()


def _plain(key: SecretStr | None) -> str:
    return key.get_secret_value() if key else ""


def _protect(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "no-store")
    return response
