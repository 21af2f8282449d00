"""What pipelines must not have in common, and what one of them must not have twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.pipelines.expressions import problem
from embedstream.pipelines.model import is_topic
from embedstream.store.names import Names, documents_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embedstream.pipelines.document import Node
    from embedstream.pipelines.model import Pipeline
    from embedstream.pipelines.problem import Problem

_ADVICE = {
    "table": "give each pipeline a table of its own",
    "job": "give each pipeline a job of its own",
    "group": "give each pipeline a group of its own",
    "dead_letters": 'write dead_letters: "{topic}-{name}-dead-letters" in one of them',
}


def problems(root: Node, pipelines: Mapping[str, Pipeline]) -> Iterator[Problem]:
    owners: dict[tuple[str, str], str] = {}
    for name, pipeline in pipelines.items():
        yield from _alone(root, name, pipeline)
        for key, names in _owned(name, pipeline).items():
            taken = [each for each in names if owners.setdefault((key, each), name) != name]
            if taken:
                sentence = f"{taken[0]} is that of pipeline {owners[key, taken[0]]} too: {_ADVICE[key]}"
                yield problem(root, ("pipelines", name, key), sentence)


def _owned(name: str, pipeline: Pipeline) -> dict[str, list[str]]:
    return {
        "job": [pipeline.job_name(name)],
        "group": [pipeline.group_id(name)],
        "dead_letters": [pipeline.dead_letter_topic(name)],
        "table": _relations(pipeline),
    }


def _relations(pipeline: Pipeline) -> list[str]:
    """All that belong to a table; where no schema is named, it is most often `public`."""
    try:
        names = list(Names.of(pipeline.table))
    except ConfigError:
        return []
    if pipeline.chunks:
        names.append(documents_of(pipeline.table))
    return [each.as_string().replace('"', "").removeprefix("public.") for each in names]


def _alone(root: Node, name: str, pipeline: Pipeline) -> Iterator[Problem]:
    path = ("pipelines", name)
    letters = pipeline.dead_letter_topic(name)
    if letters in pipeline.topics:
        sentence = f"{letters} is the pipeline's topic too: a dead letter would come round again"
        yield problem(root, (*path, "dead_letters"), sentence)
    elif not is_topic(letters):
        yield problem(root, (*path, "dead_letters"), f"{letters} is no topic's name")
    try:
        Names.of(pipeline.table)
    except ConfigError as exc:
        yield problem(root, (*path, "table"), str(exc).rpartition(": ")[2])
