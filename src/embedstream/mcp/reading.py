"""The tools that only look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from embedstream.errors import EmbedstreamError
from embedstream.mcp import described, told
from embedstream.mcp.answers import DeadLetters, Found, Hit, Journey, Message, Part, Standing, Table, Tables
from embedstream.mcp.budget import HIDDEN, NOTE, Budget
from embedstream.search.problem import InvalidRequest
from embedstream.search.request import Mode, request_of

if TYPE_CHECKING:
    from embedstream.console.parts import Parts, Pipeline
    from embedstream.search import answer

OfPipeline = Annotated[str | None, Field(description="Its name, as describe tells it (left out: the first one).")]
Stage = Annotated[Literal["decode", "embed", "store"] | None, Field(description="Only those of this stage.")]
Code = Annotated[str | None, Field(description="Only those with this code.")]
Since = Annotated[str | None, Field(description="Only those since this time (ISO 8601), or so long ago: 30m, 2h, 7d.")]
Where = Annotated[
    dict[str, Any] | None,
    Field(
        description='A filter: {"field": "metadata.kind", "op": "eq", "value": "function"}; op is eq, ne, in, gt, gte, '
        'lt, lte, exists, contains or prefix; {"and": [...]}, {"or": [...]} and {"not": {...}} join them. Fields are '
        "those that describe names, and id, source, message_timestamp, token_count, truncated."
    ),
]
MOST_HITS = 50


class Reading:
    """Over pipelines that somebody else starts and closes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def search(
        self,
        *,
        query: Annotated[str, Field(description="What to look for, in words.")],
        k: Annotated[int, Field(ge=1, le=MOST_HITS, description="Rows to find.")] = 10,
        mode: Annotated[Mode, Field(description="Look by meaning, by the words, or by both.")] = "hybrid",
        where: Where = None,
        after: Annotated[AwareDatetime | None, Field(description="Only messages of this time or later.")] = None,
        before: Annotated[AwareDatetime | None, Field(description="Only messages before this time.")] = None,
        pipeline: OfPipeline = None,
    ) -> Found:
        """Find messages by their meaning, by their words, or by both."""
        facts = {"query": query, "k": k, "mode": mode, "where": where, "after": after, "before": before}
        chosen = self._parts.chosen(pipeline)
        found = chosen.search(request_of(facts))
        hides, budget = chosen.settings.console_hide_texts, Budget(len(found.hits))
        hits = [_hit(each, budget, hides=hides) for each in found.hits]
        note = HIDDEN if hides else NOTE if budget.is_cut else None
        return Found(hits=hits, method=found.method, complete=found.complete, as_of=found.as_of, note=note)

    def get_message(
        self,
        *,
        id: Annotated[str, Field(description="Id of the message, as a hit tells it.")],
        start: Annotated[int, Field(ge=0, description="The character to begin at, for what was cut.")] = 0,
        pipeline: OfPipeline = None,
    ) -> Message:
        """Read one message as it stands in the table."""
        return described.message(self._parts.chosen(pipeline).settings, id, start)

    def where_is(
        self,
        *,
        id: Annotated[str | None, Field(description="Id of a message.")] = None,
        partition: Annotated[int | None, Field(ge=0, description="Instead of an id: the record at this place.")] = None,
        offset: Annotated[int | None, Field(ge=0, description="Goes with partition.")] = None,
        everywhere: Annotated[
            bool, Field(description="Look at the whole topic, which may take minutes, not only at its newest records.")
        ] = False,
        pipeline: OfPipeline = None,
    ) -> Journey:
        """Tell what became of a message: every version of its id, where it stands in the topic, and its outcome."""
        settings = self._parts.chosen(pipeline).settings
        if id is not None and partition is None and offset is None:
            return told.journey_of(settings, id, everywhere=everywhere)
        if id is None and partition is not None and offset is not None:
            return told.journey_at(settings, partition, offset)
        raise InvalidRequest("give an id, or partition and offset")

    def status(self, pipeline: OfPipeline = None) -> Standing:
        """Tell how far, how fresh and how healthy the pipeline is."""
        return told.standing(self._parts.chosen(pipeline))

    def list_dead_letters(
        self,
        *,
        stage: Stage = None,
        code: Code = None,
        since: Since = None,
        limit: Annotated[int, Field(ge=1, le=200, description="List so many of the newest; all are counted.")] = 20,
        pipeline: OfPipeline = None,
    ) -> DeadLetters:
        """List messages that were rejected, with the reason, and count them by stage and code."""
        return told.dead_letters(self._parts.chosen(pipeline).settings, told.wanted(stage, code, since), limit)

    def describe(self) -> Tables:
        """Tell what there is to search: pipelines, tables, times, and the fields of metadata with examples.

        Begin with it: `where` of search takes these fields.
        """
        return Tables(tables=[_table(each) for each in self._parts.pipelines.values()])


def _table(pipeline: Pipeline) -> Table:
    try:
        return described.table(pipeline)
    except EmbedstreamError as exc:
        return described.bare(pipeline, str(exc))


def _hit(hit: answer.Hit, budget: Budget, *, hides: bool) -> Hit:
    text, metadata = budget.take("" if hides else hit.text, hit.metadata)
    return Hit(
        id=hit.id, similarity=hit.similarity, score=hit.score, text=None if hides else text, characters=len(hit.text),
        source=hit.source, message_timestamp=hit.message_timestamp, metadata=metadata,
        chunk=hit.chunk and Part(**hit.chunk._asdict()),
    )  # fmt: skip
