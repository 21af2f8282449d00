"""What pydantic has against a file, in one sentence for each value.

Of a union pydantic tells what each of its kinds has against a value: the kind that was meant is the one which the value
has the shape of, and where it has the shape of none, they are named together.
"""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from inspect import isclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_args

from pydantic import BaseModel

from embedstream.pipelines.model import Pipeline, PipelineFile
from embedstream.pipelines.problem import Path, Problem, dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from embedstream.pipelines.document import Node

    Error: TypeAlias = Mapping[str, Any]

_KINDS = {
    "string_type": "a string", "tuple_type": "a list", "list_type": "a list", "model_type": "a map",
    "dict_type": "a map", "int_type": "a whole number", "bool_type": "true or false",
}  # fmt: skip
_SHOWN = 40


class _Finding(NamedTuple):
    """An error at the end of the way from `node`, which stands under `step` in `parent`."""

    error: Error
    rest: tuple[str | int, ...]
    node: Node
    parent: Node | None = None
    step: str | int = ""

    def walked(self) -> _Finding:
        """As far as the file has the steps of the way; pydantic's own, as those of a union, are not in it."""
        found = self
        while found.rest and (child := found.node.child(found.rest[0])):
            found = _Finding(self.error, found.rest[1:], child, found.node, found.rest[0])
        return found

    @property
    def is_of_a_kind(self) -> bool:
        """Whether only one kind of a union has something against the value."""
        is_key = len(self.rest) == 1 and (self.error["type"] == "missing" or self.rest[0] == "[key]")
        return bool(self.rest) and not is_key

    @property
    def is_of_another_shape(self) -> bool:
        return not self.rest and self.error["type"] in (*_KINDS, "literal_error")


def problems(errors: Iterable[Error], root: Node) -> Iterator[Problem]:
    """For all errors of PipelineFile about the plain value of `root`."""
    yield from _problems([_Finding(error, tuple(error["loc"]), root) for error in errors])


def _problems(findings: Iterable[_Finding]) -> Iterator[Problem]:
    unions: defaultdict[int, list[_Finding]] = defaultdict(list)
    for finding in (each.walked() for each in findings):
        if finding.is_of_a_kind:
            unions[id(finding.node)].append(finding)
        elif not (finding.error["type"] == "too_short" and finding.node.value):  # pydantic counts the valid items
            yield _problem(finding)
    for union in unions.values():
        yield from _of_union(union)


def _of_union(findings: Sequence[_Finding]) -> Iterator[Problem]:
    kinds: defaultdict[str | int, list[_Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.rest[0]].append(finding._replace(rest=finding.rest[1:]))
    fitting = [kind for kind in kinds.values() if not any(finding.is_of_another_shape for finding in kind)]
    if fitting:
        fitting.sort(key=len)
        yield from _problems(fitting[0])
        return
    shapes = [finding for kind in kinds.values() for finding in kind if finding.is_of_another_shape]
    yield findings[0].node.problem(_shapes(findings[0].node, [finding.error for finding in shapes]))


def _problem(finding: _Finding) -> Problem:
    error, node, parent = finding.error, finding.node, finding.parent
    if error["type"] == "missing":
        return Problem(node.place, dotted((*node.path, *finding.rest)), "is missing")
    if parent and (finding.rest or error["type"] == "extra_forbidden"):  # it is about the key
        place = parent.keys.get(str(finding.step), node.place)
        return Problem(place, dotted(node.path), _unknown(node.path) if not finding.rest else _told(error))
    return node.problem(_shapes(node, [error]) if finding.is_of_another_shape else _told(error))


def _told(error: Error) -> str:
    kind, facts = error["type"], error.get("ctx", {})
    if kind in ("string_too_short", "too_short"):
        return "is empty"
    if kind == "greater_than_equal":
        return f"must be at least {facts['ge']}"
    if kind == "less_than_equal":
        return f"must be at most {facts['le']}"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def _shapes(node: Node, errors: Iterable[Error]) -> str:
    kinds = [_KINDS.get(error["type"]) or _words(error) for error in errors]
    *others, last = dict.fromkeys(kinds)
    sentence = f"{described(node)}, but must be {', '.join(others)}{' or ' if others else ''}{last}"
    quotes = "a string" in kinds and node.is_plain and isinstance(node.value, bool | int | float)
    return f'{sentence}: write it in quotes, "{node.written}"' if quotes else sentence


def _words(error: Error) -> str:
    return str(error["ctx"]["expected"]).replace("'", "")


def described(node: Node) -> str:
    """What YAML takes the value for."""
    value = node.value
    if isinstance(value, dict | list):
        return f"is a {'map' if isinstance(value, dict) else 'list'}"
    if isinstance(value, str):
        return f'is "{node.written[:_SHOWN]}{"…" if len(node.written) > _SHOWN else ""}"'
    if value is None:
        return f"is {node.written}, which is nothing in YAML" if node.written else "is empty"
    read = json.dumps(value)
    return f"is {read}" if read == node.written else f"is {node.written}, which YAML reads as {read}"


def _unknown(path: Path) -> str:
    key, known = str(path[-1]), known_keys(path[:-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"there is no such key: did you mean {near[0]}?" if near else f"there is no such key, but {', '.join(known)}"


def known_keys(path: Path) -> list[str]:
    """The keys that the map at this path of the file may have."""
    models: set[type[BaseModel]] = {PipelineFile}
    if path[:1] in (("defaults",), ("pipelines",)):
        models, path = {Pipeline}, path[1 if path[0] == "defaults" else 2 :]
    for step in path:
        if isinstance(step, str):
            models = {
                found
                for model in models
                for name, field in model.model_fields.items()
                if step == (field.alias or name)
                for found in _models(field.annotation)
            }
    fields = [(field.alias or name) for model in models for name, field in model.model_fields.items()]
    return list(dict.fromkeys(fields))


def _models(annotation: Any) -> set[type[BaseModel]]:  # noqa: ANN401 - any type
    if isclass(annotation) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models(part)}
