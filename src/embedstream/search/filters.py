"""Filters: a tree of conditions on metadata and columns, and the SQL that it becomes.

What is asked of metadata becomes one jsonpath for each part of the tree that asks nothing else, so that an index on
metadata can serve it. A value of another type, and a field that is not there, is no match and no error; `ne` and `not`
find exactly the rows that the same without them does not.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.sql import SQL, Placeholder

from embedstream.decode.fields import storable
from embedstream.search.columns import COLUMNS, column_condition
from embedstream.search.problem import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg.sql import Composable

OPERATORS = ("eq", "ne", "in", "gt", "gte", "lt", "lte", "exists", "contains", "prefix")
# Beyond, PostgreSQL's own stack is the limit, or its patience.
_DEEPEST = 32
_MOST_CONDITIONS = 1000
_LONGEST_NUMBER = 300
_STEP = re.compile(r'\.(?:"((?:[^"\\]|\\.)*)"|([^."]+))')
_COMPARED = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Compiled(NamedTuple):
    """A condition in SQL, and its parameters by name."""

    sql: Composable
    parameters: dict[str, Any]


class _Json(NamedTuple):
    """A predicate in jsonpath, about metadata."""

    path: str


class _Sql(NamedTuple):
    sql: Composable


class _Join(NamedTuple):
    sql: str
    path: str
    empty: Composable


_JOINS = {True: _Join("AND", "&&", SQL("true")), False: _Join("OR", "||", SQL("false"))}


def compile_filter(tree: object, prefix: str = "where") -> Compiled:
    """Parameters are named after `prefix`; raises InvalidRequest.

    A tree is {"field", "op", "value"}, {"and": [trees]}, {"or": [trees]} or {"not": tree}.
    """
    compiler = _Compiler(prefix)
    part = compiler.compile(tree, 0)
    return Compiled(compiler.as_sql(part), compiler.parameters)


class _Compiler:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._conditions = 0
        self.parameters: dict[str, Any] = {}

    def compile(self, tree: object, depth: int, *, holds: bool = True) -> _Json | _Sql:
        """What finds the rows for which the tree holds, or does not.

        `not` is carried to the conditions, so that nothing is written twice but what stands in the tree.
        """
        if not isinstance(tree, dict):
            raise InvalidRequest('where: write {"field", "op", "value"}, {"and": []}, {"or": []} or {"not": {}}')
        if depth > _DEEPEST:
            raise InvalidRequest(f"where: it nests deeper than {_DEEPEST}")
        match tree:
            case {"and": list(parts), **more} if not more:
                return self._joined([self.compile(part, depth + 1, holds=holds) for part in parts], _JOINS[holds])
            case {"or": list(parts), **more} if not more:
                return self._joined([self.compile(part, depth + 1, holds=holds) for part in parts], _JOINS[not holds])
            case {"not": part, **more} if not more:
                return self.compile(part, depth + 1, holds=not holds)
        return self._condition(tree, holds=holds)

    def as_sql(self, part: _Json | _Sql) -> Composable:
        if isinstance(part, _Sql):
            return part.sql
        return SQL("(metadata @@ {}::jsonpath)").format(self.parameter(part.path))

    def parameter(self, value: object) -> Placeholder:
        name = f"{self._prefix}_{len(self.parameters)}"
        self.parameters[name] = value
        return Placeholder(name)

    def _joined(self, parts: Sequence[_Json | _Sql], join: _Join) -> _Json | _Sql:
        """Parts about metadata go together, whatever stands between them."""
        paths = [part.path for part in parts if isinstance(part, _Json)]
        together = [_Json(f" {join.path} ".join(f"({each})" for each in paths))] if paths else []
        others = [part for part in parts if isinstance(part, _Sql)]
        if together and not others:
            return together[0]
        mixed: list[_Json | _Sql] = [*together, *others]
        found = [self.as_sql(part) for part in mixed]
        return _Sql(SQL("({})").format(SQL(f" {join.sql} ").join(found)) if found else join.empty)

    def _condition(self, tree: Mapping[str, Any], *, holds: bool) -> _Json | _Sql:
        self._conditions += 1
        if self._conditions > _MOST_CONDITIONS:
            raise InvalidRequest(f"where: it has more than {_MOST_CONDITIONS} conditions")
        unknown = tree.keys() - {"field", "op", "value"}
        field, op = tree.get("field"), tree.get("op", "eq")
        if unknown or not isinstance(field, str):
            raise InvalidRequest('where: a condition is {"field", "op", "value"}, and nothing else')
        if op not in OPERATORS:
            raise InvalidRequest(f"where: field {field}: the op is one of {', '.join(OPERATORS)}")
        value = _checked(field, op, tree)
        if op == "ne" or (op == "exists" and value is False):
            op, value, holds = ("eq", value, not holds) if op == "ne" else (op, True, not holds)
        if field in COLUMNS:
            part: _Json | _Sql = _Sql(column_condition(field, op, value, self.parameter))
        else:
            part = self._of_metadata(field, op, value)
        return part if holds else _contrary(part)

    def _of_metadata(self, field: str, op: str, value: Any) -> _Json | _Sql:  # noqa: ANN401 - any JSON
        keys = _keys(field)
        if op == "contains" and not (keys and isinstance(value, str)):
            for key in reversed(keys):
                value = {key: value}
            return _Sql(SQL("(metadata @> {}::jsonb)").format(self.parameter(json.dumps(value))))
        if not keys:
            raise InvalidRequest("where: of metadata as a whole the op is contains; a field of it is metadata.name")
        path = "$" + "".join(f".{json.dumps(key)}" for key in keys)
        return _Json(_PREDICATES[op](path, op, value))


def _contrary(part: _Json | _Sql) -> _Json | _Sql:
    """Neither what is unknown in jsonpath nor what is NULL in SQL holds, so that its contrary does."""
    if isinstance(part, _Json):
        return _Json(f"!({part.path}) || (({part.path}) is unknown)")
    return _Sql(SQL("(NOT coalesce({}, false))").format(part.sql))


def _compared(path: str, op: str, value: object) -> str:
    return f"{path} {_COMPARED[op]} {json.dumps(value)}"


def _one_of(path: str, _: str, values: Sequence[object]) -> str:
    return " || ".join(f"{path} == {json.dumps(value)}" for value in values) or "1 == 0"


_PREDICATES: dict[str, Callable[[str, str, Any], str]] = {
    **dict.fromkeys(_COMPARED, _compared),
    "in": _one_of,
    "exists": lambda path, _, __: f"exists({path})",
    "prefix": lambda path, _, value: f"{path} starts with {json.dumps(value)}",
    "contains": lambda path, _, value: f'{path} like_regex {json.dumps(value)} flag "q"',
}


def _keys(field: str) -> list[str]:
    """Of `metadata.a."b.c"`: a, b.c; of `metadata` none."""
    if field != "metadata" and not field.startswith("metadata."):
        columns = ", ".join(COLUMNS)
        raise InvalidRequest(f"where: there is no field {field}: write metadata.name, or one of {columns}")
    rest = field.removeprefix("metadata")
    found = list(_STEP.finditer(rest))
    if "".join(step[0] for step in found) != rest:
        raise InvalidRequest(f'where: field {field}: write names with dots between, and "a name" with a dot in quotes')
    return [_key(step[1]) if step[2] is None else str(storable(step[2])) for step in found]


def _key(quoted: str) -> str:
    try:
        return str(storable(json.loads(f'"{quoted}"')))
    except ValueError:
        raise InvalidRequest("where: a name in quotes is written as JSON writes a string") from None


def _checked(field: str, op: str, tree: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """The value as it can have been stored; raises InvalidRequest where the operator takes no such value."""
    if op != "exists" and "value" not in tree:
        raise InvalidRequest(f"where: field {field}: {op} needs a value")
    value = tree.get("value", True)
    if not _FITS[op](value):
        raise InvalidRequest(f"where: field {field}: {op} takes {_TAKES[op]}")
    if not _is_storable(value):
        raise InvalidRequest(f"where: field {field}: the value has a number that JSON or PostgreSQL cannot hold")
    return storable(value)


def _is_storable(value: object) -> bool:
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return False
    return not isinstance(value, int) or len(text) <= _LONGEST_NUMBER


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_ordered(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


_FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("eq", "ne"), _is_scalar),
    "in": lambda value: isinstance(value, list) and all(_is_scalar(each) for each in value),
    **dict.fromkeys(("gt", "gte", "lt", "lte"), _is_ordered),
    "exists": lambda value: isinstance(value, bool),
    "contains": lambda _: True,
    "prefix": lambda value: isinstance(value, str),
}
_TAKES = {
    **dict.fromkeys(("eq", "ne"), "a string, a number, true, false or null (contains takes lists and objects)"),
    "in": "a list of strings, numbers, true, false or null",
    **dict.fromkeys(("gt", "gte", "lt", "lte"), "a string or a number"),
    "exists": "true, false or no value",
    "contains": "JSON",
    "prefix": "a string",
}
