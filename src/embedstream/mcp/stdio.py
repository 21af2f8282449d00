"""The server over standard input and output, as a client starts it."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

from embedstream.console.parts import Parts
from embedstream.logs import configure_logging
from embedstream.mcp.server import make_server

if TYPE_CHECKING:
    from embedstream.settings import Settings


def serve(settings: Settings) -> None:
    """Until the client closes standard input. Raises ConfigError for a file of pipelines that does not hold."""
    configure_logging(settings.log_level)
    with closing(Parts.of(settings)) as parts, suppress(KeyboardInterrupt):
        make_server(parts, writes=settings.mcp_write).run()
