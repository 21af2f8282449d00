"""Real prose that every Python has: the docstrings of its standard library."""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests, tools, and pages of generated methods would drown the rest.
_LEFT_OUT = {
    "antigravity", "distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test",
    "tests", "this", "tkinter", "turtle", "turtledemo", "__pycache__",
}  # fmt: skip


class Docstring(NamedTuple):
    """A docstring under its qualified name; `kind` is module, class or function."""

    name: str
    module: str
    kind: str
    text: str


def docstrings() -> list[Docstring]:
    """Some four thousand docstrings of public names, read from the sources without importing them, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    files = ((path, _module_of(path.relative_to(root))) for path in sorted(root.rglob("*.py")))
    found = (entry for path, module in files if module for entry in _docstrings_of(path, module))
    return list({entry.name: entry for entry in found}.values())


def _module_of(path: Path) -> str | None:
    """The public module that a source file implements; `_pydatetime.py` is the Python text of datetime."""
    parts = [part.removeprefix("_py") for part in path.with_suffix("").parts if part != "__init__"]
    hidden = any(part in _LEFT_OUT or part.startswith(("_", "config-")) for part in parts)
    return None if hidden or not parts else ".".join(parts)


def _docstrings_of(path: Path, module: str) -> Iterator[Docstring]:
    tree = ast.parse(path.read_bytes())
    for name, kind, node in _definitions(tree, module):
        text = ast.get_docstring(node)
        if text and not text.isspace():
            yield Docstring(name, module, kind, text)


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(tree: ast.Module, module: str) -> Iterator[tuple[str, str, _Documented]]:
    waiting: list[tuple[str, str, _Documented]] = [(module, "module", tree)]
    while waiting:
        name, kind, node = waiting.pop(0)
        yield name, kind, node
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                child_kind = "class" if isinstance(child, ast.ClassDef) else "function"
                waiting.append((f"{name}.{child.name}", child_kind, child))
