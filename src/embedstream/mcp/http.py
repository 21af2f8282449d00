"""The server over HTTP, beside the pages of the console: each request stands alone, and is answered in JSON."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp.server.transport_security import TransportSecuritySettings

from embedstream.mcp.server import make_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from embedstream.console.guard import Role
    from embedstream.console.parts import Parts
    from embedstream.web.door import Receive, Send

# Who may come in is the console's to say.
_ANYBODY = TransportSecuritySettings(enable_dns_rebinding_protection=False)


class HttpTools:
    """A server for readers and one for writers, so that nobody is offered what the key does not allow."""

    def __init__(self, parts: Parts) -> None:
        writes = {"read": False, "write": parts.settings.mcp_write}
        self._servers = {role: make_server(parts, writes=each) for role, each in writes.items()}
        self._applications = {
            role: server.streamable_http_app(json_response=True, stateless_http=True, transport_security=_ANYBODY)
            for role, server in self._servers.items()
        }

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for server in self._servers.values():
                await stack.enter_async_context(server.session_manager.run())
            yield

    async def answer(self, role: Role, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await self._applications[role](dict(scope), receive, send)
