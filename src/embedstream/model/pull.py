"""Fetches a model of the Hub ahead of time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from embedstream.display import progress as bar
from embedstream.errors import ConfigError
from embedstream.model.show import look
from embedstream.service.engine.names import is_on_hub
from embedstream.service.engine.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.model.show import Shown
    from embedstream.settings import Settings

_STEP_SECONDS = 0.2
_MIB = 1 << 20


def pull(settings: Settings) -> Shown:
    """What was fetched, or was there; a bar on a terminal shows how far it is.

    Raises ConfigError, and HubUnavailable where the same may go well later.
    """
    if not is_on_hub(settings):
        raise ConfigError(f"{settings.embedding_model} is no model of the Hub that has to be pulled: see model show")
    from embedstream.service.engine.hub import fetch  # noqa: PLC0415 - its library takes a third of a second

    progress, done = Progress(), threading.Event()
    with bar(f"downloading {settings.embedding_model} (MiB)") as update:
        threading.Thread(target=_watch, args=(progress, update, done), daemon=True).start()
        try:
            fetch(settings, progress)
        finally:
            done.set()
    return look(settings)


def _watch(progress: Progress, update: Callable[[int], None], done: threading.Event) -> None:
    while not done.wait(_STEP_SECONDS):
        update(progress.facts().get("bytes", 0) // _MIB)
