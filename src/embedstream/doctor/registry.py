"""Whether the schema registry answers, and whether the mapping fits what is registered for the topic."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedstream.doctor.check import Check, Verdict, ok, skipped, warn
from embedstream.errors import ConfigError, RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.decode.registry import Registry
    from embedstream.decode.schema import Schema
    from embedstream.decode.spec import Decoding, Format
    from embedstream.doctor.world import World

    Part = Literal["key", "value"]

# No schema of theirs describes a row.
_OPAQUE = {"maxwell", "canal"}
_UNFRAMED = "neither key nor value is read by a schema registry"


def _answers(world: World) -> Verdict:
    if decoding_of(world).registry is None:
        return ok("no schema registry is asked")
    with _asked(world) as registry:
        return ok(f"{registry.url} knows schemas of {', '.join(registry.check())}")


def _subjects(world: World) -> Verdict:
    """Where producers name subjects otherwise, as by the record, records are read all the same."""
    subjects = _names(world)
    if not subjects:
        return ok(_UNFRAMED)
    with _asked(world) as registry:
        try:
            missing = [subject for subject in subjects if _latest(registry, subject) is None]
        except RegistryUnavailable as exc:
            return warn(str(exc), "records can be read without this, but nothing is known of the topic's subjects")
        if missing:
            return warn(
                f"{registry.url} has no subject {' and no subject '.join(missing)}",
                "see that the producer registers at this registry, unless it names subjects otherwise than by the "
                "topic, or has sent nothing yet",
            )
        return ok(f"{registry.url} has {' and '.join(subjects)}")


def _fields(world: World) -> Verdict:
    subjects = _names(world)
    if not subjects:
        return ok(_UNFRAMED)
    with _asked(world) as registry:
        try:
            found = {subject: _latest(registry, subject) for subject in subjects}
        except RegistryUnavailable as exc:
            return skipped(str(exc))
    decoding = decoding_of(world)
    known: list[str] = []
    lacking: list[str] = []
    for subject, part in subjects.items():
        latest = found[subject]
        names = latest and _field_names(subject, latest, decoding, part)
        if latest and names is not None:
            known.append(f"version {latest[0]} of {subject}")
            lacking += [f"{known[-1]} has no {each}" for each in _lacking(decoding, part, names)]
    if lacking:
        return warn("; ".join(lacking), "correct the expression, unless it is meant for records of another schema")
    if not known:
        return skipped("no schema tells which fields the records have")
    return ok(f"{' and '.join(known)} {'have' if len(known) > 1 else 'has'} the fields that the mapping reads")


def _latest(registry: Registry, subject: str) -> tuple[int, Schema] | None:
    from embedstream.decode.schema import Unusable  # noqa: PLC0415 - of the extra `decode`

    try:
        return registry.latest(subject)
    except Unusable as exc:
        raise ConfigError(f"the latest version of {subject} {exc}: register one that can be used") from exc


def _field_names(subject: str, latest: tuple[int, Schema], decoding: Decoding, part: Part) -> frozenset[str] | None:
    """None where the schema does not tell."""
    from embedstream.decode.schema import Unusable  # noqa: PLC0415 - of the extra `decode`
    from embedstream.decode.schema_fields import field_names  # noqa: PLC0415 - likewise

    version, schema = latest
    if part == "value" and decoding.envelope in _OPAQUE:
        return None
    try:
        names = field_names(schema, "after" if part == "value" and decoding.envelope == "debezium" else None)
    except Unusable as exc:
        raise ConfigError(f"version {version} of {subject} {exc}: register one that can be used") from exc
    is_event = part == "value" and decoding.envelope == "cloudevents" and names is not None and "specversion" in names
    return None if is_event else names


def _lacking(decoding: Decoding, part: Part, names: frozenset[str]) -> list[str]:
    """What is missing, and which expressions read it."""
    from embedstream.decode.plan import plan  # noqa: PLC0415 - of the extra `decode`

    readers: dict[str, list[str]] = {}
    for compiled in plan(decoding).compiler.compiled:
        for root, name in sorted(compiled.fields):
            if root == part and name not in names and compiled.text not in readers.setdefault(name, []):
                readers[name].append(compiled.text)
    return [f"field {name}{_hint(name, names)}, read by {' and '.join(texts)}" for name, texts in readers.items()]


def _hint(name: str, names: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _names(world: World) -> dict[str, Part]:
    """The subjects of what is framed, as producers name them unless they are told otherwise."""
    formats, topic = decoding_of(world).formats, world.settings.kafka_input_topic
    written: dict[Part, Format] = {"value": formats.value, "key": formats.key}
    return {f"{topic}-{part}": part for part, format in written.items() if format == "registry"}


def decoding_of(world: World) -> Decoding:
    if world.settings.decoding is None:
        raise TypeError("only a pipeline with a mapping is checked for it")
    return world.settings.decoding


@contextmanager
def _asked(world: World) -> Iterator[Registry]:
    from embedstream.decode.registry import Registry  # noqa: PLC0415 - of the extra `decode`

    access = decoding_of(world).registry
    if access is None:
        raise TypeError("only a registry that is named can be asked")
    registry = Registry(access, Path())
    try:
        yield registry
    finally:
        registry.close()


CHECKS = (
    Check("mapping.registry", _answers, ("mapping.decoder",)),
    Check("mapping.subjects", _subjects, ("mapping.registry",)),
    Check("mapping.fields", _fields, ("mapping.registry",)),
)
