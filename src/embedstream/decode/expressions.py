"""Expressions of a pipeline file: JMESPath over the names in ROOTS.

A path of names alone is evaluated by a closure, which means the same and is many times faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError, LexerError, ParseError
from jmespath.visitor import Options, TreeInterpreter

from embedstream.decode import expression_checks
from embedstream.decode.expression_checks import ROOTS, ExpressionError
from embedstream.decode.expression_functions import Functions
from embedstream.decode.fields import reject

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ROOTS", "Compiled", "ExpressionError", "compile_expression", "header_names", "kind"]

Scope: TypeAlias = Mapping[str, Any]
Get: TypeAlias = Callable[[Scope], Any]

_INTERPRETER = TreeInterpreter(Options(custom_functions=Functions()))
_LEXER_HINTS = {
    "=": ": to compare, write ==",
    "-": ": a name with - in it is written in double quotes",
    "+": ": there is no arithmetic in JMESPath",
    "/": ": there is no arithmetic in JMESPath",
}
_FAILURES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class Compiled(NamedTuple):
    """An expression that can be evaluated; `path` are the names of a plain one, else None.

    `roots`, `headers` and `fields` (root and name) are what it reads.

    `get` raises Rejected (`mapping_failed`), which names the expression and quotes no value.
    """

    text: str
    get: Get
    roots: frozenset[str]
    headers: frozenset[str]
    fields: frozenset[tuple[str, str]]
    path: tuple[str, ...] | None
    conjuncts: tuple[Compiled, ...] = ()
    """The parts of an expression that is `a && b`, all of which must hold; else none."""

    def __call__(self, scope: Scope) -> object:
        return self.get(scope)

    @property
    def is_plain(self) -> bool:
        return self.path is not None


def compile_expression(text: str, *, item: bool = False, field: str = "") -> Compiled:
    """Raises ExpressionError for what can never mean anything.

    `item` says whether there is one, as inside of `each`; `field` is what the expression is for, in reasons.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # JMESPath itself discourages `text` for 'text'
            tree: Any = jmespath.compile(text).parsed
    except JMESPathError as exc:
        raise ExpressionError(*_syntax(exc, text)) from None
    except RecursionError:
        raise ExpressionError("the expression nests too deep", 1) from None
    return _compiled(text, tree, item=item, label=f"{field}: {text}" if field else text)


def header_names(expressions: Iterable[Compiled]) -> frozenset[str]:
    """The headers that the expressions read, which are all that a record needs to carry."""
    return frozenset[str]().union(*(expression.headers for expression in expressions))


def kind(value: object) -> str:
    """What a value is, in a word or two of JSON's."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return next((name for type_, name in kinds.items() if isinstance(value, type_)), "no JSON value")


def _compiled(text: str, tree: dict[str, Any], *, item: bool, label: str) -> Compiled:
    reads = expression_checks.checked(tree, text, item=item)
    path = _path(tree)
    parts = tree["children"] if tree["type"] == "and_expression" else ()
    return Compiled(
        text,
        _closure(path) if path else _search(tree, label),
        *reads,
        path,
        tuple(_compiled(text, part, item=item, label=label) for part in parts),
    )


def _path(tree: dict[str, Any]) -> tuple[str, ...] | None:
    if tree["type"] == "field":
        return (tree["value"],)
    if tree["type"] != "subexpression":
        return None
    parts = [_path(child) for child in tree["children"]]
    return None if None in parts else tuple(name for part in parts if part for name in part)


def _closure(path: tuple[str, ...]) -> Get:
    root, *names = path
    if not names:
        return lambda scope: scope.get(root)
    if len(names) == 1:
        (name,) = names
        return lambda scope: node.get(name) if isinstance(node := scope.get(root), dict) else None

    def get(scope: Scope) -> Any:  # noqa: ANN401 - any JSON
        node = scope.get(root)
        for name in names:
            if not isinstance(node, dict):
                return None
            node = node.get(name)
        return node

    return get


def _search(tree: Any, label: str) -> Get:  # noqa: ANN401 - its types are private
    def get(scope: Scope) -> Any:  # noqa: ANN401 - any JSON
        try:
            return _INTERPRETER.visit(tree, scope)
        except JMESPathTypeError as exc:
            takes = " or ".join(exc.expected_types)
            given = exc.actual_type.replace("NoneType", "null")
            reject("mapping_failed", f"{label}: {exc.function_name}() takes {takes}, and was given {given}")
        except _FAILURES as exc:
            what = str(exc) if isinstance(exc, JMESPathError) else type(exc).__name__
            reject("mapping_failed", f"{label}: evaluating it failed ({what})")

    return get


def _syntax(exc: JMESPathError, text: str) -> tuple[str, int]:
    if isinstance(exc, LexerError):
        hint = _LEXER_HINTS.get(exc.lexer_value, "")
        return f"the expression cannot be read ({exc.message}){hint}", exc.lexer_position + 1
    if not isinstance(exc, ParseError) or exc.token_type in {None, "EOF"}:
        return ("the expression ends too early" if text.strip() else "the expression is empty"), len(text) + 1
    hint = ""
    if exc.token_type == "NUMBER":  # noqa: S105 - no secret
        hint = f": a number is written in backticks, `{exc.token_value}`"
    elif text[: exc.lex_position].rstrip().endswith("["):
        hint = ': a name that is not a plain word is written in double quotes, as headers."ce-id"'
    return f'"{exc.token_value}" cannot stand here{hint}', exc.lex_position + 1
