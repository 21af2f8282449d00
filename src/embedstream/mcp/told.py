"""Journeys, dead letters and the status as the tools answer them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from embedstream.dead_letters.letter import Filter, Place, newest, parse_since, read
from embedstream.errors import ConfigError
from embedstream.journey import report, scan, trace
from embedstream.journey.show import OUTCOMES
from embedstream.journey.show import as_text as journey_as_text
from embedstream.mcp.answers import DeadLetters, Health, Journey, Kind, Rejection, Standing, Version
from embedstream.mcp.budget import CHARACTERS, HIDDEN, cut
from embedstream.status.show import as_text as status_as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embedstream.console.parts import Pipeline
    from embedstream.dead_letters.letter import Facts
    from embedstream.settings import Settings

_REASON_CHARACTERS = 300
_MOST_VERSIONS = 100
_WHOLE_TOPIC = scan.Bounds(limit=None, everywhere=True)
_NEWEST = scan.Bounds()


def journey_of(settings: Settings, id: str, *, everywhere: bool) -> Journey:
    found = trace.journey(settings, id, _WHOLE_TOPIC if everywhere else _NEWEST)
    return _told(settings, found, complete=found.complete, stored=found.row is not None, finding=found.finding)


def journey_at(settings: Settings, partition: int, offset: int) -> Journey:
    return _told(settings, trace.at(settings, partition, offset), complete=True, stored=None, finding=None)


def _told(
    settings: Settings, found: report.Journey | report.At, *, complete: bool, stored: bool | None, finding: str | None
) -> Journey:
    hides = settings.console_hide_texts
    words = journey_as_text(_hidden(found) if hides else found)
    notes = [HIDDEN] if hides else []
    if len(words) > CHARACTERS or len(found.versions) > _MOST_VERSIONS:
        notes.append(f"cut: `words` has at most {CHARACTERS:,} characters, and the lists {_MOST_VERSIONS} entries")
    letters = (_of_letter(each) for each in found.dead_letters[-_MOST_VERSIONS:])
    return Journey(
        words=cut(words, CHARACTERS), known=found.known, explained=found.explained, complete=complete, stored=stored,
        presence=found.presence if isinstance(found, report.At) else "there", finding=finding,
        versions=[_version(each) for each in found.versions[-_MOST_VERSIONS:]], dead_letters=list(letters),
        troubles=list(found.troubles), note="; ".join(notes) or None,
    )  # fmt: skip


def _hidden(found: report.Journey | report.At) -> report.Journey | report.At:
    versions = tuple(each if each.text is None else replace(each, text="(hidden)") for each in found.versions)
    if isinstance(found, report.At):
        return replace(found, versions=versions)
    row = found.row and replace(found.row, text=found.row.text and "(hidden)")
    return replace(found, versions=versions, row=row)


def _version(version: report.Version) -> Version:
    facts = {name: getattr(version, name) for name in Version.model_fields if name != "meaning"}
    reason = version.reason and cut(version.reason, _REASON_CHARACTERS)
    return Version.model_validate({**facts, "meaning": OUTCOMES[version.outcome], "reason": reason})


def _of_letter(letter: report.Letter) -> Rejection:
    return Rejection(
        place=f"{letter.partition}:{letter.offset}", origin=f"{letter.origin_partition}:{letter.origin_offset}",
        at=letter.at, stage=letter.stage, code=letter.code, reason=cut(letter.reason, _REASON_CHARACTERS),
        attempts=letter.attempts,
    )  # fmt: skip


def standing(pipeline: Pipeline) -> Standing:
    """A look of its own; raises ConfigError where nothing at all answers."""
    at, status, error = pipeline.watcher.look()
    if status is None:
        raise ConfigError(error or "the pipeline is not known")
    kept = Standing.model_fields.keys() - {"words", "at", "pipeline", "health"}
    return Standing(
        words=status_as_text(status), at=at, pipeline=pipeline.name, health=Health.model_validate(status.health),
        **{name: getattr(status, name) for name in kept},
    )  # fmt: skip


def wanted(stage: str | None, code: str | None, since: str | None, places: Iterable[str] | None = None) -> Filter:
    moment = parse_since(since, datetime.now(UTC)) if since else None
    return Filter(stage, code, moment, frozenset(map(Place.parse, places)) if places else None)


def dead_letters(settings: Settings, chosen: Filter, limit: int) -> DeadLetters:
    counts: Counter[tuple[str, str]] = Counter()

    def counted() -> Iterator[Facts]:
        for letter in read(settings):
            if chosen.takes(letter.facts):
                counts[letter.facts.stage, letter.facts.code] += 1
                yield letter.facts

    found = [_of_facts(facts) for facts in newest(counted(), limit)]
    note = f"the newest {len(found)} of {counts.total():,}" if counts.total() > len(found) else None
    kinds = [Kind(stage=stage, code=code, count=number) for (stage, code), number in counts.most_common()]
    return DeadLetters(count=counts.total(), kinds=kinds, dead_letters=found, note=note)


def _of_facts(facts: Facts) -> Rejection:
    return Rejection(
        place=str(facts.place), origin=facts.origin and str(facts.origin), at=facts.at, stage=facts.stage,
        code=facts.code, reason=cut(facts.reason, _REASON_CHARACTERS), attempts=facts.attempts,
    )  # fmt: skip
