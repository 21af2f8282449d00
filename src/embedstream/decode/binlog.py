"""Change events that are read from MySQL's log: Maxwell's and Canal's.

Maxwell: https://maxwells-daemon.io/dataformat/ (1.41); Canal: FlatMessage of
https://github.com/alibaba/canal (1.1.7), which TiCDC writes too, with watermarks among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.decode.fields import reject
from embedstream.decode.opened import Headers, Opened, Parts

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAXWELL_ROWS = {"insert", "update", "delete", "bootstrap-insert"}
_CANAL_ROWS = {"INSERT", "UPDATE", "DELETE"}
_KEY_OF_LIST = 3


def open_maxwell(value: Any, key: Any, _headers: Headers) -> Sequence[Opened]:  # noqa: ANN401 - any JSON
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or "database" not in value:
        reject("envelope", "the value is no change event of Maxwell (an object with database, table, type and data)")
    if kind not in _MAXWELL_ROWS:
        return ()  # definitions of tables, and where a bootstrap begins and ends
    row = value.get("data")
    if not isinstance(row, dict):
        reject("envelope", "Maxwell's change event has no object as data")
    names, id = _maxwell_id(value, key, row)
    before = _before(row, value.get("old")) if kind == "update" else None
    before_id = [before.get(name) for name in names] if before and names else None
    return (Opened(row, value, id, kind == "delete", value.get("ts"), before, before_id),)


def _maxwell_id(value: dict[str, Any], key: Any, row: dict[str, Any]) -> tuple[Sequence[str], Parts]:  # noqa: ANN401
    """The names of the primary key's columns, and their values."""
    columns = value.get("primary_key_columns")
    if isinstance(columns, list) and columns and all(isinstance(name, str) for name in columns):
        return columns, [row.get(name) for name in columns]
    given = value.get("primary_key")
    if isinstance(given, list) and given:
        return (), given
    fields = _maxwell_key(key)
    return tuple(fields), list(fields.values()) or None


def _maxwell_key(key: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """The primary key by Maxwell's key, as a hash or as an array."""
    if isinstance(key, dict):
        return {name[3:]: part for name, part in key.items() if name.startswith("pk.")}
    if isinstance(key, list) and len(key) == _KEY_OF_LIST and isinstance(key[2], list):
        return {name: part for field in key[2] if isinstance(field, dict) for name, part in field.items()}
    return {}


def maxwell_key_id(key: Any, _headers: Headers) -> Parts:  # noqa: ANN401 - any JSON
    return list(_maxwell_key(key).values()) or None


def open_canal(value: Any, _key: Any, _headers: Headers) -> Sequence[Opened]:  # noqa: ANN401 - any JSON
    rows = _canal_rows(value)
    names, kind, time = _primary_key(value), value["type"], value.get("es")
    olds = value.get("old") if kind == "UPDATE" else None
    olds = olds if isinstance(olds, list) else []
    opened = []
    for position, row in enumerate(rows):
        before = _before(row, olds[position]) if position < len(olds) else None
        id = [row.get(name) for name in names] or None
        before_id = [before.get(name) for name in names] if before and names else None
        opened.append(Opened(row, value, id, kind == "DELETE", time, before, before_id))
    return opened


def open_canal_whole(value: Any, _key: Any, _headers: Headers) -> Sequence[Opened]:  # noqa: ANN401 - any JSON
    """All rows as one, for `each` to divide."""
    if not _canal_rows(value):
        return ()
    return (Opened(value, value, None, value["type"] == "DELETE", value.get("es")),)


def _canal_rows(value: Any) -> Sequence[dict[str, Any]]:  # noqa: ANN401 - any JSON
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or "isDdl" not in value:
        reject("envelope", "the value is no change event of Canal (an object with data, type and isDdl)")
    if kind == "TRUNCATE":
        reject("truncate", "the whole table was truncated, which no single delete can follow: empty the table here too")
    rows = value.get("data")
    if value["isDdl"] is True or kind not in _CANAL_ROWS or rows is None:
        return ()  # definitions of tables, and TiCDC's watermarks
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        reject("envelope", "Canal's change event has no list of objects as data")
    return rows


def _primary_key(value: dict[str, Any]) -> Sequence[str]:
    names = value.get("pkNames")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _before(row: dict[str, Any], old: object) -> dict[str, Any] | None:
    return row | old if isinstance(old, dict) and old else None
