"""As of which offsets an answer is, and waiting until the table has a record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.search.problem import NotReached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg
    from psycopg.sql import Composed

    from embedstream.settings import Settings

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.05


def read_as_of(
    connection: psycopg.Connection[Any], settings: Settings, statements: Mapping[str, Composed]
) -> dict[int, int] | None:
    """Where the table stands, by partition; None where it keeps no progress, or this user may not read it."""
    name = store.Names.of(settings.pgvector_table).progress.as_string()
    if connection.execute(statements["may_read_progress"], {"progress": name}).fetchone() != (True,):
        return None
    return dict(connection.execute(statements["as_of"], {"topic": settings.kafka_input_topic}).fetchall())


def wait_until(read: Callable[[], dict[int, int] | None], offsets: Mapping[int, int], timeout: float) -> None:
    """Until the record at each offset has its outcome in the table.

    Raises NotReached after `timeout` seconds, ConfigError where the table does not tell how far it is.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        as_of = read()
        if as_of is None:
            raise ConfigError(
                "how far the table is cannot be read: GRANT SELECT on its progress, or submit the job with this version"
            )
        missing = {each: offset for each, offset in offsets.items() if as_of.get(each, 0) <= offset}
        if not missing:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotReached(_sentence(missing, as_of, timeout), as_of)
        time.sleep(min(pause, left))
        pause = min(_LONGEST_PAUSE, 2 * pause)


def _sentence(missing: Mapping[int, int], as_of: Mapping[int, int], timeout: float) -> str:
    places = ", ".join(
        f"offset {offset} of partition {each} (it is before offset {as_of.get(each, 0)})"
        for each, offset in sorted(missing.items())
    )
    return f"the table did not come to {places} within {timeout:g} s: embedstream status shows how far behind it is"
