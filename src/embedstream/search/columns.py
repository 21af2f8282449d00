"""Conditions on the columns of a row, beside its metadata."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg.sql import SQL, Identifier

from embedstream.search.problem import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from psycopg.sql import Composable, Placeholder

    Parameter: TypeAlias = Callable[[object], Placeholder]

COLUMNS = ("id", "source", "message_timestamp", "token_count", "truncated")
_TYPES = {
    "id": "text", "source": "text", "message_timestamp": "timestamptz", "token_count": "numeric", "truncated": "boolean"
}  # fmt: skip
_COMPARED = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TEXT_ALONE = ("prefix", "contains")


def column_condition(field: str, op: str, value: Any, parameter: Parameter) -> Composable:  # noqa: ANN401 - any JSON
    """The condition in SQL; texts compare by their bytes, as in Python. Raises InvalidRequest."""
    column = SQL('{} COLLATE "C"' if _TYPES[field] == "text" else "{}").format(Identifier(field))
    if op == "exists":
        return SQL("({} IS NOT NULL)").format(Identifier(field))
    if op in _TEXT_ALONE and (_TYPES[field] != "text" or not isinstance(value, str)):
        raise InvalidRequest(f"where: field {field}: {op} is for id, source and metadata")
    if op == "in":
        return _one_of(field, column, value, parameter)
    if value is None:
        return SQL("({} IS NULL)").format(Identifier(field))
    if op == "prefix":
        return SQL("starts_with({}, {}::text)").format(column, parameter(value))
    if op == "contains":
        return SQL("(strpos({}, {}::text) > 0)").format(column, parameter(value))
    compared = SQL(f"({{}} {_COMPARED[op]} {{}}::{_TYPES[field]})")
    return compared.format(column, parameter(_of_its_type(field, value)))


def _one_of(
    field: str, column: Composable, values: list[Any], parameter: Callable[[object], Placeholder]
) -> Composable:
    known = [_of_its_type(field, value) for value in values if value is not None]
    found = SQL(f"{{}} = ANY({{}}::{_TYPES[field]}[])").format(column, parameter(known))
    return SQL("({} OR {} IS NULL)").format(found, Identifier(field)) if None in values else SQL("({})").format(found)


def _of_its_type(field: str, value: Any) -> Any:  # noqa: ANN401 - any JSON
    match _TYPES[field], value:
        case ("boolean", bool()) | ("text", str()):
            return value
        case "numeric", int() | float() if not isinstance(value, bool):
            return str(value)
        case "timestamptz", str():
            return _moment(field, value)
    raise InvalidRequest(f"where: field {field}: {_WANTED[_TYPES[field]]}")


def _moment(field: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequest(f"where: field {field}: {_WANTED['timestamptz']}")
    return moment


_WANTED = {
    "boolean": "the value is true or false",
    "text": "the value is a string",
    "numeric": "the value is a number",
    "timestamptz": "the value is a time in ISO 8601 with its zone, as 2026-01-01T00:00:00Z",
}
