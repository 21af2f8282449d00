"""`${NAME}` and `${NAME:-default}` in the strings of a pipeline file; `$$` is a dollar.

Expressions, and what tests feed in, are taken as they are written: there `$` may mean something else.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.pipelines.document import Node
    from embedstream.pipelines.problem import Path, Problem

AS_WRITTEN = frozenset(
    {"each", "where", "delete", "id", "text", "timestamp", "version", "source", "metadata", "prefix", "tests"}
)
"""Keys of a pipeline, or of its `chunks`, under which nothing is replaced."""
_NUMBERS = frozenset({"parallelism", "tokens", "overlap"})
_REFERENCE = re.compile(r"\$(?:(\$)|\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|))")


def replaced(node: Node, variable: Callable[[str], str | None], problems: list[Problem]) -> Node:
    """The node with the environment's values; adds to the problems what the environment has not got."""
    if _is_as_written(node.path):
        return node
    if isinstance(node.value, dict):
        return replace(node, value={key: replaced(each, variable, problems) for key, each in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[replaced(each, variable, problems) for each in node.value])
    if not isinstance(node.value, str) or "$" not in node.value:
        return node
    text = _replaced(node, node.value, variable, problems)
    is_number = node.is_plain and node.path and node.path[-1] in _NUMBERS and text.isascii() and text.isdecimal()
    return replace(node, value=int(text) if is_number else text)


def _is_as_written(path: Path) -> bool:
    """What stands before is `defaults`, or `pipelines` and a name."""
    keys = path[1:] if path[:1] == ("defaults",) else path[2:]
    return bool(keys) and (keys[0] in AS_WRITTEN or keys[:2] == ("chunks", "prefix"))


def _replaced(node: Node, text: str, variable: Callable[[str], str | None], problems: list[Problem]) -> str:
    def value(found: re.Match[str]) -> str:
        dollar, name, default = found.groups()
        if dollar:
            return "$"
        if name is None:
            problems.append(node.problem("has ${ without a name and }: write ${NAME}, ${NAME:-default}, or $${"))
            return ""
        given = variable(name) or default
        if given is None:
            problems.append(node.problem(f"the environment has no {name}: set it, or write ${{{name}:-default}}"))
        return given or ""

    return _REFERENCE.sub(value, text)
