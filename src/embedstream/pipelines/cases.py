"""The tests of a pipeline file: records, and what is to become of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from embedstream.decode.message import Delete, Message, Record
from embedstream.decode.timestamps import parse_timestamp
from embedstream.errors import ConfigError, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embedstream.decode.spec import Decoding
    from embedstream.pipelines.model import Case, Expected, Pipeline
    from embedstream.pipelines.problem import Path

    Decode: TypeAlias = Callable[[Decoding, Record], Sequence[Message | Delete]]
    """What becomes of a record whose key and value are JSON; nothing where it is filtered. Raises Rejected."""
    Facts: TypeAlias = dict[str, Any]

_KINDS = ("delete", "filtered", "rejected")


class Failure(NamedTuple):
    """Under `path`, from the pipeline on, stands what was expected; both sides are JSON."""

    path: Path
    expected: str
    got: str

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.got}"


def failures(pipeline: Pipeline, decode: Decode) -> Iterator[Failure]:
    for index, case in enumerate(pipeline.tests):
        path: Path = ("tests", index, "expect")
        expected = case.expect if isinstance(case.expect, tuple) else (case.expect,)
        try:
            found = outcome(pipeline, case, decode)
        except ConfigError as exc:
            yield Failure(path, _json(_dumped(expected)), str(exc))
            continue
        if len(found) != len(expected):
            yield Failure(path, _count(len(expected)), f"{_count(len(found))}: {_json(found)}")
            continue
        for position, (wanted, got) in enumerate(zip(expected, found, strict=True)):
            yield from _compared((*path, position) if isinstance(case.expect, tuple) else path, wanted, got)


def outcome(pipeline: Pipeline, case: Case, decode: Decode) -> list[Facts]:
    """What becomes of the record, as `expect` says it, with the reason of a refusal."""
    try:
        items = decode(pipeline.decoding, record_of(pipeline, case))
    except Rejected as exc:
        return [{"rejected": exc.code, "reason": exc.reason}]
    return [facts_of(item) for item in items] or [{"filtered": True}]


def record_of(pipeline: Pipeline, case: Case) -> Record:
    """Key and value are JSON, but a key of the format text is as it is written."""
    is_text = isinstance(case.key, str) and pipeline.formats.key == "text"
    key = case.key.encode() if is_text else _bytes(case.key)
    topic, headers = case.topic or pipeline.topics[0], {name: text.encode() for name, text in case.headers.items()}
    return Record(key, _bytes(case.value), topic, case.partition, case.offset, case.timestamp, headers)


def _bytes(value: object) -> bytes | None:
    return None if value is None else json.dumps(value, ensure_ascii=False).encode()


def facts_of(item: Message | Delete) -> Facts:
    if isinstance(item, Delete):
        return {"delete": item.id}
    moment = item.timestamp.isoformat().replace("+00:00", "Z")
    metadata = json.loads(item.metadata)
    return {"id": item.id, "text": item.text, "metadata": metadata, "timestamp": moment, "source": item.source}


def _compared(path: Path, wanted: Expected, got: Facts) -> Iterator[Failure]:
    expected = _dumped([wanted])[0]
    kinds = [next((kind for kind in _KINDS if kind in facts), "message") for facts in (expected, got)]
    if kinds[0] != kinds[1]:
        yield Failure(path, _json(expected), _json(got))
        return
    for name, value in expected.items():
        if not _same(name, value, got[name]):
            yield Failure((*path, name), _json(value), _json(got[name]))


def _same(name: str, expected: object, got: object) -> bool:
    if name == "timestamp":
        return parse_timestamp(expected) == parse_timestamp(got)
    return expected == got


def _dumped(expected: Sequence[Expected]) -> list[Facts]:
    return [each.model_dump(include=each.model_fields_set) for each in expected]


def _count(number: int) -> str:
    return f"{number} outcome{'' if number == 1 else 's'}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
