"""The way in: reads requests, and hands each to the WSGI application once it is complete.

A WSGI server lends a thread to each client for as long as it takes to send, and to answer; a few that dribble, or some
that wait, would have them all. Here a client that is still sending has no thread, and EMBEDDING_READ_SECONDS; and a
request whose vectors are not there yet has none: the application is asked again when they are.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from embedstream.web.gunzip import ENCODINGS, Gunzip
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
    from concurrent.futures import Future
    from wsgiref.types import WSGIApplication

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

REFUSAL = "embedstream.refusal"
"""Where a WSGI environment has the Problem of a request that was not read."""

WAITING = "embedstream.waiting"
"""Where a WSGI environment has a Waiting; without one an application waits itself."""

_MAX_DISCARDED_BYTES = 268_435_456
_LEAVING_SECONDS = 0.5
_SPARE_THREADS = 8
_POLL = 0.01


class Waiting:
    """An application that sets `future` is asked again once that is done, with what it left here; its first answer
    goes nowhere.
    """

    def __init__(self) -> None:
        self.future: Future[None] | None = None
        self.asked: Any = None
        self.began: tuple[float, str] | None = None


class Door:
    """An ASGI application over a WSGI application that has so many threads for what is posted, and some for all else.

    Of a body larger than `max_body` bytes only the length is passed on; all bodies together may have `max_held`. Both
    count what gzip decodes to.
    """

    def __init__(
        self, application: WSGIApplication, *, threads: int, read_seconds: float, max_body: int, max_held: int
    ) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(threads, "request")
        # Never behind texts that are being read: how the service is, and answers that are there.
        self._spare_threads = ThreadPoolExecutor(_SPARE_THREADS, "answer")
        self._read_seconds = read_seconds
        self._max_body = max_body
        self._max_held = max_held
        self._held = 0
        self._answering = 0
        self._answered = -_LEAVING_SECONDS

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        environ = _environ(scope)
        gunzip = Gunzip() if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() in ENCODINGS else None
        if gunzip:
            del environ["HTTP_CONTENT_ENCODING"]
        body = _Body(gunzip)
        try:
            environ |= await self._read(body, receive)
            with self.answering():
                await self._answer(environ, send)
        finally:
            self._held -= len(body.kept)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While somebody waits for an answer, also from what stands beside the door."""
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1
            self._answered = time.monotonic()

    def wait_until_answered(self, seconds: float) -> None:
        """Wait, at most so long, until nobody waits for the answer to a complete request.

        The server does not tell when an answer has left; half a second is more than it takes.
        """
        deadline = time.monotonic() + seconds
        while (self._answering or time.monotonic() - self._answered < _LEAVING_SECONDS) and time.monotonic() < deadline:
            time.sleep(_POLL)

    async def _answer(self, environ: dict[str, Any], send: Send) -> None:
        response = await self._ask(
            environ, self._threads if environ["REQUEST_METHOD"] == "POST" else self._spare_threads
        )
        if future := environ[WAITING].future:
            # What was read is not read again.
            environ |= {"wsgi.input": BytesIO(), "CONTENT_LENGTH": "0"}
            await asyncio.shield(asyncio.wrap_future(future))
            response = await self._ask(environ, self._spare_threads)
        if REFUSAL in environ:
            response.headers["Connection"] = "close"
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.get_data()})

    async def _ask(self, environ: dict[str, Any], threads: ThreadPoolExecutor) -> Response:
        ask = partial(Response.from_app, self._application, environ, buffered=True)
        return await asyncio.get_running_loop().run_in_executor(threads, ask)

    async def _read(self, body: _Body, receive: Receive) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._read_seconds):
                await self._fill(body, receive)
        except TimeoutError:
            message = f"the request did not come within {self._read_seconds:g} seconds"
            return {REFUSAL: Problem(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", message)}
        if body.torn:
            return {REFUSAL: Problem(HTTPStatus.BAD_REQUEST, "request_torn", "the request ended before its body did")}
        if body.broken or (body.gunzip and not body.gunzip.complete and body.length <= self._max_body):
            message = "the body is not whole gzip, as its Content-Encoding says"
            return {REFUSAL: Problem(HTTPStatus.BAD_REQUEST, "not_gzip", message)}
        if body.refused:
            message = "as many requests are being read as there is memory for"
            return {REFUSAL: Problem(HTTPStatus.TOO_MANY_REQUESTS, "queue_full", message, retry_after=1.0)}
        return {"CONTENT_LENGTH": str(body.length), "wsgi.input": BytesIO(body.kept)}

    async def _fill(self, body: _Body, receive: Receive) -> None:
        """All of it is read: a client that is still sending when the connection is closed would lose the answer."""
        more = True
        while more and body.length <= _MAX_DISCARDED_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                body.torn = True
                return
            self._keep(body, message.get("body") or b"")
            more = message.get("more_body", False)

    def _keep(self, body: _Body, chunk: bytes) -> None:
        if body.gunzip and not body.broken and body.length <= self._max_body:
            try:
                chunk = body.gunzip.decode(chunk, self._max_body - body.length + 1)
            except ValueError:
                body.broken = True
        body.length += len(chunk)
        body.refused = body.refused or self._held + len(chunk) > self._max_held
        if body.refused or body.length > self._max_body:
            self._held -= len(body.kept)
            body.kept.clear()
        else:
            self._held += len(chunk)
            body.kept += chunk


class _Body:
    def __init__(self, gunzip: Gunzip | None) -> None:
        self.gunzip = gunzip
        self.broken = False
        self.kept = bytearray()
        self.length = 0
        self.refused = False
        self.torn = False


def _environ(scope: Mapping[str, Any]) -> dict[str, Any]:
    """PEP 3333's environment, all but the body."""
    server = scope.get("server") or ("localhost", 80)
    client = scope.get("client") or ("", 0)
    return {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": str(client[0]),
        "CONTENT_LENGTH": "0",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        WAITING: Waiting(),
        **_headers(scope["headers"]),
    }


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        # The length is that of what was read; a name with an underscore would pass for another header.
        if name.lower() in ("content-length", "transfer-encoding") or "_" in name:
            continue
        key = "CONTENT_TYPE" if name.lower() == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"
        found[key] = f"{found[key]},{value}" if key in found else value
    return found
