"""What a journey found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from embedstream.dead_letters.letter import Place, of_record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from confluent_kafka import Message

# Characters of a text that are kept of each version.
EXCERPT = 200


@dataclass(frozen=True)
class Version:
    """A message about an id, or a record that is rejected or filtered, which has no event time.

    `outcome` is one of `OUTCOMES` (show.py), `asks` is `message`, `delete`, `rejected` or `filtered`. `text` are the
    first characters; None where it says none. `keyed` tells whether its record's key names the id, so that compaction
    takes it for a version of it.
    """

    id: str | None
    partition: int
    offset: int
    item: int
    recorded: datetime | None
    event_time: datetime | None
    asks: str
    outcome: str
    text: str | None = None
    characters: int | None = None
    stage: str | None = None
    code: str | None = None
    reason: str | None = None
    keyed: bool = True

    @property
    def place(self) -> str:
        return f"{self.partition}:{self.offset}"

    def came_before(self, other: Version) -> bool:
        if self.partition == other.partition:
            return (self.offset, self.item) < (other.offset, other.item)
        return bool(self.recorded and other.recorded and self.recorded <= other.recorded)


@dataclass(frozen=True)
class Entry:
    """The ledger's; `origin` is what the audit says of its place, `sent` where the topic has that record."""

    state: str
    event_time: datetime
    topic: str
    partition: int
    offset: int
    item: int
    updated_at: datetime
    origin: str = "none"


@dataclass(frozen=True)
class Row:
    """As it stands; `chunks` is None in a table of whole texts, what is not known of a broken document None, too."""

    text: str | None
    characters: int | None
    source: str | None
    metadata: dict[str, Any] | None
    message_timestamp: datetime | None
    embedding_timestamp: datetime | None
    model_name: str | None
    model_revision: str | None
    token_count: int | None
    truncated: bool | None
    chunks: int | None = None
    unseen: int | None = 0


@dataclass(frozen=True)
class Letter:
    """A dead letter: its own place, and where the record stood; `has_text` unless its value was too large for one."""

    partition: int
    offset: int
    at: datetime
    stage: str
    code: str
    reason: str
    attempts: int
    origin_partition: int
    origin_offset: int
    has_text: bool


@dataclass(frozen=True)
class Looked:
    """The offsets of a partition that were looked at, of those that the topic has for readers of committed records."""

    partition: int
    first: int
    end: int
    log_first: int
    log_end: int

    @property
    def is_whole(self) -> bool:
        return (self.first, self.end) == (self.log_first, self.log_end) or self.log_first == self.log_end


@dataclass(frozen=True)
class Journey:
    """The versions of an id in the order in which they were recorded, and what stands of it.

    `finding` is what the audit calls an id that is not what the topic says. Versions may stand in what was not looked
    at. `troubles` say what stands between table and topic, and what to do.
    """

    id: str
    topic: str
    table: str
    versions: tuple[Version, ...]
    row: Row | None
    ledger: Entry | None
    dead_letters: tuple[Letter, ...]
    finding: str | None
    looked_at: tuple[Looked, ...]
    troubles: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of the topic was looked at."""
        return all(each.is_whole for each in self.looked_at)

    @property
    def known(self) -> bool:
        return bool(self.versions or self.row or self.ledger or self.dead_letters)

    @property
    def explained(self) -> bool:
        return self.finding is None and all(each.outcome != "unexplained" for each in self.versions)

    def as_facts(self) -> dict[str, Any]:
        return {**_facts(self), "complete": self.complete, "known": self.known, "explained": self.explained}


@dataclass(frozen=True)
class At:
    """What became of the record at a place; `presence` is `there` where there is one."""

    topic: str
    table: str
    partition: int
    offset: int
    presence: str = "there"
    versions: tuple[Version, ...] = ()
    dead_letters: tuple[Letter, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        return self.presence == "there"

    @property
    def explained(self) -> bool:
        return all(each.outcome != "unexplained" for each in self.versions)

    def as_facts(self) -> dict[str, Any]:
        return {**_facts(self), "known": self.known, "explained": self.explained}


def _facts(found: Journey | At) -> dict[str, Any]:
    """With the lists that programs expect."""
    facts = asdict(found)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}


def letter_of(message: Message) -> Letter:
    facts = of_record(message).facts
    origin = facts.origin or Place(-1, -1)
    has_text = message.value() is not None and "value" not in facts.omitted
    return Letter(*facts.place, facts.at, facts.stage, facts.code, facts.reason, facts.attempts, *origin, has_text)


def by_time(versions: Iterable[Version]) -> tuple[Version, ...]:
    """In the order in which they were recorded, as far as that is known."""

    def order(version: Version) -> tuple[float, int, int, int]:
        moment = version.recorded or version.event_time
        return moment.timestamp() if moment else 0.0, version.partition, version.offset, version.item

    return tuple(sorted(versions, key=order))
