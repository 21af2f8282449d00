"""What an audit found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from embedstream.display import table

if TYPE_CHECKING:
    from embedstream.audit.beside import Beside

KINDS = (
    "orphan", "missing", "undeleted", "older_mapping", "stale", "wrong_space", "bad_vector", "changed", "moved", "lost",
    "beside", "unexplained",
)  # fmt: skip

# Findings about ids of which there is no list.
_UNLISTED = ("moved", "lost", "beside")


class Finding(NamedTuple):
    """An id that is not what the topic says; positions are partition/offset, None where there is none."""

    kind: str
    id: str
    ledger: str | None
    topic: str | None


class Dead(NamedTuple):
    """Dead letters of one stage and code."""

    stage: str
    code: str
    messages: int


class Outcomes(NamedTuple):
    """Messages by what became of them; a message whose id has a finding is unexplained.

    `late` are superseded by a message that stands before them in their partition, only because of their time.
    """

    stored: int = 0
    superseded: int = 0
    late: int = 0
    deleted: int = 0
    filtered: int = 0
    dead: int = 0
    in_flight: int = 0
    unexplained: int = 0


class Repair(NamedTuple):
    """What a repair did, or would do: records sent again, broken rows and orphans removed, ids that it cannot mend."""

    resent: int
    removed_rows: int
    removed_orphans: int
    left: int
    dry_run: bool

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        done = (
            f"{self.resent:,} {would}sent again, {self.removed_rows:,} broken rows and {self.removed_orphans:,} orphans"
            f" {would}removed, {self.left:,} left alone"
        )
        return done if self.dry_run else f"{done}\nonce the job has taken what was sent again, run the audit again"


@dataclass(frozen=True)
class Report:
    """The outcomes, which add up to `messages` and `exploded`, and the findings by kind.

    `messages` are records of the topic, `exploded` what came of them beyond one message each.
    `expired`, `newer` and `other_topics` count ids of the ledger that the messages read do not explain, for a reason.
    `moved` are ids whose place in the ledger is of another topic; they are one finding. `findings` holds the first ids
    of each other kind. `behind_transaction` and `expired_unread` are offsets that no reader of committed records gets
    yet, or any more. `beside` is the table that a migration keeps in step. `troubles` say what stands between table and
    topic, and what to do.
    """

    topic: str
    table: str
    messages: int
    ids: int
    outcomes: Outcomes
    dead_letters: tuple[Dead, ...]
    expired: int
    newer: int
    other_topics: int
    sampled: int
    kinds: dict[str, int]
    findings: tuple[Finding, ...]
    moved: int = 0
    behind_transaction: int = 0
    expired_unread: int = 0
    troubles: tuple[str, ...] = ()
    exploded: int = 0
    repair: Repair | None = None
    beside: Beside | None = None

    @property
    def equal(self) -> bool:
        return not self.kinds

    @property
    def closes(self) -> bool:
        return self.messages + self.exploded == sum(self.outcomes)

    @property
    def left_out(self) -> dict[str, int]:
        """How many findings of each kind are not listed, of kinds that are."""
        listed = [finding.kind for finding in self.findings]
        left = {kind: count - listed.count(kind) for kind, count in self.kinds.items() if kind not in _UNLISTED}
        return {kind: count for kind, count in left.items() if count}

    def as_facts(self) -> dict[str, object]:
        """For JSON."""
        facts = vars(self) | self.outcomes._asdict()
        del facts["outcomes"]
        return {
            **facts,
            "equal": self.equal,
            "closes": self.closes,
            "dead_letters": [each._asdict() for each in self.dead_letters],
            "findings": [each._asdict() for each in self.findings],
            "left_out": self.left_out,
            "beside": self.beside._asdict() if self.beside else None,
            "repair": self.repair._asdict() if self.repair else None,
        }

    def __str__(self) -> str:
        parts = [self._shown_figures(), self.equation, "\n".join((self.verdict, *self.troubles))]
        if self.findings:
            rows = [(each.kind, each.id, each.ledger or "-", each.topic or "-") for each in self.findings]
            parts.append(table(["finding", "id", "ledger at", "topic says"], rows))
        if self.repair:
            parts.append(str(self.repair))
        return "\n\n".join(parts)

    def _shown_figures(self) -> str:
        rows = self.figures
        width, digits = max(len(row[0]) for row in rows), len(f"{self.messages:,}")
        return "\n".join(f"{name:<{width}}  {count:>{digits},}  {what}".rstrip() for name, count, what in rows)

    @property
    def figures(self) -> list[tuple[str, int, str]]:
        """Each with its name and what it counts; dead letters of one stage and code stand indented below all."""
        rows: list[tuple[str, int, str]] = [
            (f"topic {self.topic}", self.messages, f"messages, {self.ids:,} ids"),
            *([("exploded", self.exploded, "more that came of them")] if self.exploded else []),
            ("stored", self.outcomes.stored, f"stand in table {self.table}"),
            ("superseded", self.outcomes.superseded, "have a newer version"),
            ("late", self.outcomes.late, "lost against a message before them, only by their time"),
            ("deleted", self.outcomes.deleted, "deletes that took effect"),
            *([("filtered", self.outcomes.filtered, "left out by the mapping")] if self.outcomes.filtered else []),
            ("dead", self.outcomes.dead, "in the dead-letter topic"),
            *((f"  {each.stage} {each.code}", each.messages, "") for each in self.dead_letters),
            ("in flight", self.outcomes.in_flight, "not in the table yet"),
            ("unexplained", self.outcomes.unexplained, "see the findings"),
        ]
        others = [
            ("expired", self.expired, "ids whose record has left the topic"),
            ("expired unread", self.expired_unread, "offsets that left the topic before they were read, at most"),
            ("in transaction", self.behind_transaction, "offsets behind a transaction that is open"),
            ("newer", self.newer, "ids that were written during the audit"),
            ("other topics", self.other_topics, "ids from other topics"),
            ("sampled", self.sampled, "rows embedded again"),
        ]
        return rows + [row for row in others if row[1]] + self._figures_beside()

    def _figures_beside(self) -> list[tuple[str, int, str]]:
        if self.beside is None:
            return []
        name, count, pending, uncopied, _, sampled = self.beside
        rows = [
            ("beside", count, f"rows of table {name}"),
            ("  no vector", pending, "of them are still to be embedded"),
            ("  to come", uncopied, "rows are not copied yet"),
            ("  sampled", sampled, "of them embedded again"),
        ]
        return rows[:1] + [row for row in rows[1:] if row[1]]

    @property
    def equation(self) -> str:
        sign, verdict = ("=", "closes") if self.closes else ("≠", "does not close")
        messages = f"{self.messages:,}" + (f" + {self.exploded:,}" if self.exploded else "")
        return f"{verdict}: {messages} {sign} {' + '.join(f'{part:,}' for part in self.outcomes)}"

    @property
    def verdict(self) -> str:
        if self.equal:
            waiting = (
                (self.outcomes.in_flight, "in flight"),
                (self.behind_transaction, "offsets behind an open transaction"),
            )
            but = " and ".join(f"{count:,} {what}" for count, what in waiting if count)
            return f"equal: the table is what the topic says{f', but for {but}' if but else ''}"
        return "not equal: " + ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.items())
