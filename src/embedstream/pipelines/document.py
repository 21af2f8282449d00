"""YAML in which everything has its place, and from which nothing is taken other than it was meant."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from embedstream.pipelines.problem import Path, Place, Problem, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

Scalar: TypeAlias = str | int | float | bool | None

MOST_VALUES = 50_000
MOST_LEVELS = 50
_LONGEST_NUMBER = 100
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_COLLECTIONS = (f"{_TAG}map", f"{_TAG}seq")
_HALF = re.compile("[\ud800-\udfff]")
_STRINGS = (f"{_TAG}str", f"{_TAG}value")


@dataclass(frozen=True, slots=True)
class Node:
    """A value with the path and the place where it is written; of a map, the places of its keys too.

    `written` is a scalar as it stands in the file, without quotes; `is_plain` where it has none.
    """

    value: dict[str, Node] | list[Node] | Scalar
    place: Place
    path: Path
    keys: dict[str, Place] = field(default_factory=dict)
    written: str = ""
    is_plain: bool = False

    def plain(self) -> Any:  # noqa: ANN401 - any JSON
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def child(self, step: object) -> Node | None:
        if isinstance(self.value, dict):
            return self.value.get(step) if isinstance(step, str) else None
        if isinstance(self.value, list) and isinstance(step, int):
            return self.value[step] if step < len(self.value) else None
        return None

    def problem(self, sentence: str, column: int = 0) -> Problem:
        """About this value; `column` counts within what is written on one line."""
        return Problem(Place(self.place.line, self.place.column + column), dotted(self.path), sentence)


def merged(base: Node, over: Node) -> Node:
    """Maps deeply; all else is replaced, and keeps its place."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    both = {key: merged(base.value[key], node) for key, node in over.value.items() if key in base.value}
    return Node({**base.value, **over.value, **both}, over.place, over.path, {**base.keys, **over.keys})


class _Bounded(yaml.SafeLoader):
    """Gives up on what would take long, or nests so deep that Python gives up."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values = self.levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - the signature is PyYAML's
        self.values += 1
        self.levels += 1
        if self.values > MOST_VALUES or self.levels > MOST_LEVELS:
            what = f"more than {MOST_VALUES} values" if self.values > MOST_VALUES else f"{MOST_LEVELS} levels and more"
            raise yaml.MarkedYAMLError(problem=f"the file has {what}", problem_mark=self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self.levels -= 1


class Document:
    """Reads a text of YAML once; what is wrong with it is in `problems`, and `root` is None where it is no YAML."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._values = 0
        self._open: list[yaml.Node] = []
        self._loader: _Bounded | None = None
        self.root = self._read(text)

    def _read(self, text: str) -> Node | None:
        try:
            self._loader = _Bounded(text)
            root = self._loader.get_single_node()
            return None if root is None else self._node(root, ())
        except yaml.reader.ReaderError as exc:
            before = text[: exc.position]
            place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
            self.problems.append(Problem(place, "", f"the character U+{exc.character:04X} is not allowed in YAML"))
        except yaml.MarkedYAMLError as exc:
            self.problems.append(Problem(_place(exc), "", _sentence(exc)))
        return None

    def _node(self, node: yaml.Node, path: Path) -> Node:
        self._values += 1
        if self._values > MOST_VALUES or node in self._open:
            what = f"aliases make more than {MOST_VALUES} values of the file"
            problem = "an alias stands inside of what it names" if node in self._open else what
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        self._open.append(node)
        try:
            return self._converted(node, path)
        finally:
            self._open.pop()

    def _converted(self, node: yaml.Node, path: Path) -> Node:
        if isinstance(node, yaml.ScalarNode):
            value = self._scalar(node, path)
            return Node(value, _start(node), path, written=node.value, is_plain=node.style is None)
        if node.tag not in _COLLECTIONS:
            self._refuse(node, path, f"the tag {node.tag.replace(_TAG, '!!')} means nothing here: leave it out")
        if isinstance(node, yaml.SequenceNode):
            items = [self._node(item, (*path, index)) for index, item in enumerate(node.value)]
            return Node(items, _start(node), path)
        return self._map(node, path)

    def _map(self, node: yaml.Node, path: Path) -> Node:
        values: dict[str, Node] = {}
        places: dict[str, Place] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            name = self._key(key, path)
            if name in places:
                self._refuse(key, path, f"the key {name} is here twice: the first is in line {places[name].line}")
                continue
            places[name] = _start(key)
            values[name] = self._node(value, (*path, name))
        for other in self._merges(node, path):
            values = {**other.value, **values} if isinstance(other.value, dict) else values
            places = {**other.keys, **places}
        return Node(values, _start(node), path, places)

    def _merges(self, node: yaml.Node, path: Path) -> Iterator[Node]:
        """What `<<` takes over, the first before the next; a key of the map's own goes before all."""
        for key, value in node.value:
            if key.tag == _MERGE:
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(each, yaml.MappingNode):
                        yield self._node(each, path)
                    else:
                        self._refuse(each, path, "<< takes an alias of a map, or a list of them")

    def _key(self, key: yaml.Node, path: Path) -> str:
        if not isinstance(key, yaml.ScalarNode):
            self._refuse(key, path, "a key is to be a string")
            return ""
        if key.tag not in _STRINGS:
            self._refuse(key, path, f'YAML does not read the key {key.value} as a string: write "{key.value}"')
        return str(key.value)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Scalar:
        if node.tag in _STRINGS:
            if halves := _HALF.search(node.value):
                self._refuse(node, path, "has half of a surrogate pair: write the character itself")
            return _HALF.sub("?", node.value) if halves else str(node.value)
        complaint, value = self._constructed(node)
        if complaint:
            self._refuse(node, path, complaint)
        return value

    def _constructed(self, node: yaml.ScalarNode) -> tuple[str | None, Scalar]:
        kind = node.tag.removeprefix(_TAG)
        if kind == "timestamp":
            return f'YAML reads {node.value} as a date: write "{node.value}"', None
        if kind not in ("int", "float", "bool", "null"):
            return f"the tag {node.tag.replace(_TAG, '!!')} means nothing here: leave it out", None
        if len(node.value) > _LONGEST_NUMBER:
            return f"is a number of {len(node.value)} characters: if it is none, write it in quotes", None
        try:
            value = self._loader.construct_object(node) if self._loader else None
        except (ValueError, LookupError, OverflowError):
            return f"is no {kind}", None
        if isinstance(value, float) and not math.isfinite(value):
            return f'is no number that JSON has: if it is a text, write "{node.value}"', None
        return None, value

    def _refuse(self, node: yaml.Node, path: Path, sentence: str) -> None:
        self.problems.append(Problem(_start(node), dotted(path), sentence))


def _start(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _place(exc: yaml.MarkedYAMLError) -> Place:
    mark = exc.problem_mark or exc.context_mark
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _sentence(exc: yaml.MarkedYAMLError) -> str:
    """PyYAML's own words, or ours."""
    context = f" ({exc.context})" if exc.context else ""
    return f"{exc.problem or 'this is no YAML'}{context}"
