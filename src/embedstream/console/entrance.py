"""The console as an ASGI application: what is asked of /mcp goes to the tools for agents, all else through the door."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import orjson

from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from contextlib import AbstractAsyncContextManager

    from embedstream.console.guard import Guard, Role
    from embedstream.web.door import Door, Receive, Send

PATH = "/mcp"
_DRAIN_SECONDS = 5.0


class Tools(Protocol):
    """What answers an agent of a role, once it has been started."""

    def run(self) -> AbstractAsyncContextManager[None]: ...

    async def answer(self, role: Role, scope: Mapping[str, Any], receive: Receive, send: Send) -> None: ...


class Entrance:
    """Asks agents for the console's keys, which they send with each request: the session of a browser is none."""

    def __init__(self, door: Door, guard: Guard, tools: Tools | None, read_seconds: float, max_body: int) -> None:
        self._door = door
        self._guard = guard
        self._tools = tools
        self._read_seconds = read_seconds
        self._max_body = max_body

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._tools and scope["path"].rstrip("/") == PATH:
            with self._door.answering():
                await self._ask(self._tools, scope, receive, send)
        else:
            await self._door(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            if self._tools:
                await stack.enter_async_context(self._tools.run())
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _ask(self, tools: Tools, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            role = self._role(scope)
            body = await self._read(receive)
        except Problem as problem:
            await self._drain(receive)
            await _refuse(problem, send)
            return
        await tools.answer(role, {**scope, "path": PATH}, _again(body, receive), send)

    def _role(self, scope: Mapping[str, Any]) -> Role:
        """Raises Problem for who may not come in."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not self._guard.answers_to(host):
            raise Problem(HTTPStatus.MISDIRECTED_REQUEST, "host_not_allowed", "this console answers to localhost only")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Problem(HTTPStatus.FORBIDDEN, "cross_site", "the request comes from a page of another site")
        role = self._guard.role_of_bearer(headers.get(b"authorization", ""))
        if role == "none":
            message = "send CONSOLE_API_KEY or CONSOLE_READ_KEY as Authorization: Bearer"
            raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", message)
        # Streams that the server would write to by itself: there are none, and one would hold up a stop.
        if scope["method"] != "POST":
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "MCP is spoken by POST here")
        return role

    async def _read(self, receive: Receive) -> bytes:
        """The body; raises Problem where it does not come whole, in time."""
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self._read_seconds):
                while more:
                    piece = await receive()
                    self._check(piece, len(body))
                    body += piece.get("body") or b""
                    more = piece.get("more_body", False)
        except TimeoutError:
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "the request did not come in time") from None
        return bytes(body)

    async def _drain(self, receive: Receive) -> None:
        """A client that is still sending when it is answered would lose the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while (await receive()).get("more_body", False):
                    pass

    def _check(self, piece: Mapping[str, Any], length: int) -> None:
        if piece["type"] == "http.disconnect":
            raise Problem(HTTPStatus.BAD_REQUEST, "request_torn", "the request ended before its body did")
        if length + len(piece.get("body") or b"") > self._max_body:
            message = f"a request has at most {self._max_body:,} bytes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "request_too_large", message)


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read, and then what comes after it."""
    kept = [body]

    async def read() -> MutableMapping[str, Any]:
        if kept:
            return {"type": "http.request", "body": kept.pop(), "more_body": False}
        return await receive()

    return read


async def _refuse(problem: Problem, send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="embedstream"'))
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": problem.status.value, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps({"error": problem.as_dict()})})
