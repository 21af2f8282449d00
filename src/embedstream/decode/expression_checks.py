"""What an expression reads, and whether it can mean anything; positions are found by its tokens."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from jmespath.lexer import Lexer

from embedstream.decode.expression_functions import Functions
from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOTS = ("value", "key", "headers", "record", "event", "item")
_CONSTANTS = {"null", "true", "false"}
# Of these only the first part is evaluated where the whole is: what follows sees its result, or the elements of it.
_FIRST_ONLY = {
    "subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection",
}  # fmt: skip
_IDENTIFIERS = {"unquoted_identifier", "quoted_identifier"}


class ExpressionError(ConfigError):
    """An expression that can never mean anything: what is wrong, and at which column of it (from 1).

    `path` leads to the field within the pipeline, as ("metadata", "lang").
    """

    def __init__(self, message: str, column: int = 1, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.path = path


class Reads(NamedTuple):
    """The roots, the headers, and the fields of other roots that an expression reads by name."""

    roots: frozenset[str]
    headers: frozenset[str]
    fields: frozenset[tuple[str, str]]


def checked(tree: dict[str, Any], text: str, *, item: bool) -> Reads:
    check = _Check(text, item=item)
    try:
        check.visit(tree, at_root=True)
    except RecursionError:
        raise ExpressionError("the expression nests too deep") from None
    return Reads(frozenset(check.roots), frozenset(check.headers), frozenset(check.fields))


class _Check:
    def __init__(self, text: str, *, item: bool) -> None:
        self._text = text
        self._known = ROOTS if item else ROOTS[:-1]
        self.roots: set[str] = set()
        self.headers: set[str] = set()
        self.fields: set[tuple[str, str]] = set()

    def visit(self, node: dict[str, Any], *, at_root: bool) -> None:
        """`at_root` says whether names are those of ROOTS here, or else fields of some value."""
        kind, children = node["type"], node["children"]
        if at_root:
            self._look_at_root(kind, node)
        if kind == "function_expression":
            self._function(node["value"], children)
        elif kind == "comparator":
            self._comparison(*children, at_root=at_root)
        elif kind in _FIRST_ONLY - {"pipe"} and children[0]["type"] == "not_expression":
            self._refuse("! stands for the first name alone: write !(...) around the whole path")
        if kind == "slice":  # its children are numbers
            return
        for position, child in enumerate(children):
            if at_root and position == 0 and kind == "subexpression" and child == _HEADERS:
                continue
            self.visit(child, at_root=at_root and kind != "expref" and (position == 0 or kind not in _FIRST_ONLY))

    def _look_at_root(self, kind: str, node: dict[str, Any]) -> None:
        if kind == "field":
            self._root(node["value"])
        elif kind in {"current", "identity"}:
            self._refuse(f"this says nothing of where to begin: begin with one of {', '.join(self._known)}")
        elif kind == "subexpression":
            first, second, *_ = node["children"]
            if first == _HEADERS:
                self._header(second)
            elif first["type"] == second["type"] == "field":
                self.fields.add((first["value"], second["value"]))

    def _root(self, name: str) -> None:
        if name == "headers":
            self._refuse('headers are read one by one, by names that stand here, as headers."ce-id"', name)
        if name in self._known:
            self.roots.add(name)
            return
        if name == "item":
            self._refuse("there is an item only inside of each", name)
        if name in _CONSTANTS:
            self._refuse(f"{name} is written in backticks, `{name}`: bare, it is the name of a field", name)
        near = difflib.get_close_matches(name, self._known, 1)
        hint = f"did you mean {near[0]}?" if near else f"the value's field is value.{_spelt(name)}"
        self._refuse(
            f"there is no {name}: there are {', '.join(self._known)}; {hint} (text stands in single quotes: '{name}')",
            name,
        )

    def _header(self, name: dict[str, Any]) -> None:
        self.roots.add("headers")
        if name["type"] != "field":
            self._refuse('headers are read one by one, by names that stand here, as headers."ce-id"', "headers")
        self.headers.add(name["value"])

    def _function(self, name: str, arguments: list[dict[str, Any]]) -> None:
        function = Functions.FUNCTION_TABLE.get(name)
        if function is None:
            near = difflib.get_close_matches(name, Functions.FUNCTION_TABLE, 1)
            self._refuse(f"there is no function {name}()" + (f": did you mean {near[0]}()?" if near else ""), name)
        signature = function["signature"]
        least = len(signature)
        variadic = bool(signature and signature[-1].get("variadic"))
        if len(arguments) < least or (len(arguments) > least and not variadic):
            plural = "" if least == 1 else "s"
            takes = f"{'at least ' if variadic else ''}{least} argument{plural}"
            self._refuse(f"{name}() takes {takes}, not {len(arguments)}", name)
        for parameter, argument in zip(signature, arguments, strict=False):
            wants = "expref" in parameter["types"]
            if wants is not (argument["type"] == "expref"):
                hint = "as &name" if wants else "without &"
                self._refuse(f"an argument of {name}() is written {hint}", name)

    def _comparison(self, left: dict[str, Any], right: dict[str, Any], *, at_root: bool) -> None:
        for side in (left, right):
            if side["type"] == "field" and side["value"] in _CONSTANTS:
                name = side["value"]
                self._refuse(f"{name} is written in backticks, `{name}`: bare, it is the name of a field", name)
        if not at_root and right["type"] == "field" and left["type"] != "literal":
            name = right["value"]
            self._refuse(
                f"this compares with a field: write '{name}' if the text is meant, or @.{_spelt(name)} if the field",
                name,
                last=True,
            )

    def _refuse(self, message: str, name: str | None = None, *, last: bool = False) -> NoReturn:
        found = list(_columns(self._text, name)) if name else []
        raise ExpressionError(message, (found[-1] if last else found[0]) if found else 1)


_HEADERS = {"type": "field", "children": [], "value": "headers"}


def _columns(text: str, name: str) -> Iterable[int]:
    """Where the name stands, other than behind a dot."""
    before = ""
    for token in Lexer().tokenize(text):
        if token["type"] in _IDENTIFIERS and token["value"] == name and before != "dot":
            yield token["start"] + 1
        before = token["type"]


def _spelt(name: str) -> str:
    plain = name.isidentifier() and name.isascii()
    return name if plain else f'"{name}"'
