"""The status again and again, until Ctrl-C."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from embedstream.display import as_json, console, harmless
from embedstream.errors import EmbedstreamError
from embedstream.status.show import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.status.read import Observer

EVERY = 2.0


def watch(observer: Observer, say: Callable[[str], None], *, json: bool) -> None:
    """On a terminal in place; elsewhere, and as JSON, one after the other."""
    with suppress(KeyboardInterrupt):
        if console.is_terminal and not json:
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(Text(harmless(_text(observer)), no_wrap=True, overflow="ellipsis"), refresh=True)
                    time.sleep(EVERY)
        while True:
            say(_line(observer) if json else f"{_text(observer)}\n")
            time.sleep(EVERY)


def _text(observer: Observer) -> str:
    """Where nothing answers, that is what there is to see; it may come back."""
    try:
        return as_text(observer.read())
    except EmbedstreamError as exc:
        return f"nothing answers: {exc}"


def _line(observer: Observer) -> str:
    try:
        return as_json(observer.read(), indent=None)
    except EmbedstreamError as exc:
        return as_json({"error": str(exc)}, indent=None)
