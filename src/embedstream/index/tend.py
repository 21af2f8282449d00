"""Has the indexes built by themselves: once the table is large enough to need it, and never during a bulk load."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedstream import kafka, store
from embedstream.errors import EmbedstreamError
from embedstream.index.build import Stopped, build
from embedstream.index.state import KINDS, NAMES, Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedstream.index.state import Kind
    from embedstream.settings import Settings

LOOK_SECONDS = 15.0
LONGEST_WAIT = 600.0
STOP_SECONDS = 10.0
# With an index the database takes this many messages in a few seconds.
_SMALL_BACKLOG = 1000
_SHARE_OF_TABLE = 20


@contextmanager
def in_background(settings: Settings, say: Callable[[str], None], stopping: threading.Event) -> Iterator[None]:
    """Tend the index in a thread while the block runs, or until `stopping` is set."""
    thread = threading.Thread(target=keep, args=(settings, say, stopping), name="index", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        # The server ends what a thread that is left behind was building.
        thread.join(STOP_SECONDS)


def keep(settings: Settings, say: Callable[[str], None], stopping: threading.Event) -> None:
    """Tend the index until `stopping` is set, which ends a build as well; trouble is told when it changes.

    After trouble it is tried again ever more rarely: a build that fails may have cost minutes.
    """
    told, seconds = "", LOOK_SECONDS
    while not stopping.wait(seconds):
        try:
            tend(settings, say, stopping.is_set)
        except EmbedstreamError as exc:
            seconds = min(2 * seconds, LONGEST_WAIT)
            if str(exc) != told and not isinstance(exc, Stopped):
                told = str(exc)
                say(f"the index is not looked after: {told}")
        else:
            told, seconds = "", LOOK_SECONDS


def tend(
    settings: Settings, say: Callable[[str], None] = lambda _: None, is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Build the indexes that are due, and return when they are built; mostly there is nothing to do, at little cost."""
    for kind in KINDS:
        if _is_due(settings, kind):
            say(f"building the {NAMES[kind]} of table {settings.pgvector_table}")
            index = build(settings, is_stopped=is_stopped, kind=kind)
            say(f"built the {NAMES[kind]} {index.name}")


def _is_due(settings: Settings, kind: Kind) -> bool:
    """Whether an index is missing or invalid, the table large and the backlog gone.

    A backlog also ends the time for which a drop by hand holds: it is what the index was dropped for.
    """
    if settings.index == "off":
        return False
    with store.database(settings) as connection:
        if store.read_space(connection, settings) is None:
            return False
        catalog = Catalog(connection, settings, kind)
        index = catalog.look()
        if index.state in ("valid", "building"):
            return False
        (rows,) = catalog.ask("count_until", enough=settings.index_min_rows)
        if index.state == "none" and rows < settings.index_min_rows:
            return False
        if _backlog(settings) > max(_SMALL_BACKLOG, rows // _SHARE_OF_TABLE):
            catalog.tell("forget_drop")
            return False
        return index.dropped_at is None


def _backlog(settings: Settings) -> int:
    return sum(position.lag for position in kafka.positions(settings))
