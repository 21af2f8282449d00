"""Logging as JSON lines; called by entry points only."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from pythonjsonlogger.json import JsonFormatter

if TYPE_CHECKING:
    from typing import TextIO


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send every record as one JSON object a line: timestamp, level, logger, message, and what `extra` holds."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp=True,
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
