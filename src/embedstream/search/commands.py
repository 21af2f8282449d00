"""`embedstream search` on the command line; like cli.py it imports what it needs inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.display import as_json, first_line, say, table
from embedstream.errors import ConfigError
from embedstream.options import AsJson, OfPipeline, json_or_text
from embedstream.pipelines.choice import pipeline_settings
from embedstream.search import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.search.answer import Answer, Hit
    from embedstream.search.request import Request


def search_(
    words: options.Words = None,
    *,
    count: options.Count = 10,
    mode: options.Mode = "semantic",
    like: options.Like = None,
    where: options.Where = None,
    filter: options.Filter = None,
    with_words: options.WithWords = None,
    after: options.After = None,
    before: options.Before = None,
    min_similarity: options.MinSimilarity = None,
    offset: options.Offset = 0,
    exact: options.Exact = False,
    ef_search: options.EfSearch = None,
    by: options.By = "chunk",
    wait_for: options.WaitFor = None,
    timeout: options.Timeout = 5.0,
    highlight: options.Highlight = False,
    explain: options.Explain = False,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Find the rows that are nearest in meaning, or that have the words.

    Example: embedstream search "parse a date from a string" -k 5 --where kind=function
    """
    from embedstream.search.request import checked
    from embedstream.search.searcher import search

    if (words is None) == (like is None):
        raise ConfigError("say what to look for: words, or --like ID")
    facts = {
        "query": words, "id": like, "k": count, "offset": offset, "mode": mode,
        "where": _where(where or (), filter or ()), "words": with_words,
        "after": options.moment("--after", after), "before": options.moment("--before", before),
        "min_similarity": min_similarity, "exact": exact, "ef_search": ef_search, "highlight": highlight,
        "group_by": "document" if by == "document" else None, "timeout": timeout,
        "wait_for": options.offsets(wait_for or ()),
    }  # fmt: skip
    request = checked(facts)
    answer = search(pipeline_settings(pipeline), request)
    say(as_json(_facts(answer, request, explain=explain)) if json else _text(answer, request, explain=explain))


def _where(conditions: Sequence[str], filters: Sequence[str]) -> dict[str, Any] | None:
    from embedstream.search.conditions import as_filter, parse_where

    trees = [_filter(text) for text in filters]
    if tree := as_filter(parse_where(conditions)):
        trees.append(tree)
    return {"and": trees} if trees else None


def _filter(text: str) -> dict[str, Any]:
    tree = json_or_text(text)
    if not isinstance(tree, dict):
        raise ConfigError('--filter: write a JSON object, as {"field": "metadata.year", "op": "gte", "value": 2024}')
    return tree


def _facts(answer: Answer, request: Request, *, explain: bool) -> Any:  # noqa: ANN401 - a list, or an object
    hits = [_hit(hit, request) for hit in answer.hits]
    if not explain:
        return hits
    return {
        "hits": hits, "method": answer.method, "complete": answer.complete, "as_of": answer.as_of,
        "took_ms": answer.took_ms, "next_offset": answer.next_offset,
    }  # fmt: skip


def _hit(hit: Hit, request: Request) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "similarity": hit.similarity, "id": hit.id, "text": hit.text, "source": hit.source,
        "message_timestamp": hit.message_timestamp, "metadata": hit.metadata,
    }  # fmt: skip
    if request.group_by and hit.chunk:
        facts |= {**hit.chunk._asdict(), "matching_chunks": hit.matching_chunks}
    return facts | {
        "score": hit.score, "places": hit.places._asdict(), "chunk": hit.chunk and hit.chunk._asdict(),
        "truncated": hit.truncated, "highlights": hit.highlights,
    }  # fmt: skip


def _text(answer: Answer, request: Request, *, explain: bool) -> str:
    if request.mode == "semantic":
        lines = table(["similarity", "id", "text"], ([f"{h.score:.3f}", h.id, first_line(h.text)] for h in answer.hits))
    else:
        rows = ([f"{hit.score:.4f}", _similarity(hit), hit.id, first_line(hit.text)] for hit in answer.hits)
        lines = table(["score", "similarity", "id", "text"], rows)
    return f"{lines}\n{_explained(answer)}" if explain else lines


def _similarity(hit: Hit) -> str:
    return "" if hit.similarity is None else f"{hit.similarity:.3f}"


def _explained(answer: Answer) -> str:
    as_of = ", ".join(f"{each}:{offset}" for each, offset in (answer.as_of or {}).items()) or "not known"
    took = ", ".join(f"{name} {ms:g} ms" for name, ms in answer.took_ms.items())
    how = f"{answer.method}, {'complete' if answer.complete else 'not complete'}"
    return f"{how}; as of partition:offset {as_of}; {took}"
