"""The tools that change something: offered where MCP_WRITE is set, and rehearsed unless dry_run is false."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from embedstream.audit import Wishes, audit
from embedstream.dead_letters.replay import replay
from embedstream.mcp import told
from embedstream.mcp.answers import Repaired, Replay
from embedstream.mcp.budget import CHARACTERS, cut
from embedstream.mcp.reading import Code, OfPipeline, Since, Stage  # noqa: TC001 - the SDK reads the annotations
from embedstream.search.problem import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.console.parts import Parts
    from embedstream.kafka import Outgoing

DryRun = Annotated[bool, Field(description="Only tell what would be done; false does it.")]
_LISTED = 50


class Writing:
    """Over pipelines that somebody else starts and closes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def replay_dead_letters(
        self,
        *,
        places: Annotated[
            list[str] | None, Field(description="Those at these places of the dead-letter topic, partition:offset.")
        ] = None,
        stage: Stage = None,
        code: Code = None,
        since: Since = None,
        all: Annotated[bool, Field(description="All of them.")] = False,  # noqa: A002 - what clients write
        again: Annotated[bool, Field(description="Also those that were replayed before.")] = False,
        dry_run: DryRun = True,
        pipeline: OfPipeline = None,
    ) -> Replay:
        """Send dead letters back to the input topic as they were; they die again unless what rejected them changed.

        To repeat it is harmless: what was replayed before is left out, and a newer version that arrived since stays.
        """
        if all == bool(places or stage or code or since):
            raise InvalidRequest("say which dead letters: either places, or stage, code, since, or all")
        settings = self._parts.chosen(pipeline).settings
        seen: list[str] = []

        def rehearse(records: Iterator[Outgoing]) -> int:
            seen.extend(map(_in_words, records))
            return len(seen)

        chosen = told.wanted(stage, code, since, places)
        done = replay(settings, chosen, again=again, send=rehearse if dry_run else None)
        return Replay(dry_run=dry_run, topic=settings.kafka_input_topic, records=seen[:_LISTED], **done._asdict())

    def repair(self, *, dry_run: DryRun = True, pipeline: OfPipeline = None) -> Repaired:
        """Prove that the table is what the topic says, and mend what is not: it reads all of the topic.

        Records are sent again through the ordinary path, and rows that nothing explains are removed.
        """
        settings = self._parts.chosen(pipeline).settings
        report = audit(settings, Wishes(repair=not dry_run, dry_run=dry_run))
        mended = report.repair
        return Repaired(
            words=cut(str(report), CHARACTERS), dry_run=dry_run, equal=report.equal, kinds=report.kinds,
            resent=mended.resent if mended else 0, removed_rows=mended.removed_rows if mended else 0,
            removed_orphans=mended.removed_orphans if mended else 0, left=mended.left if mended else 0,
        )  # fmt: skip


def _in_words(record: Outgoing) -> str:
    """Without its payload, which is no one's business before it is known to be well."""
    return f"to partition {record.partition}, {len(record.value or b''):,} bytes"
