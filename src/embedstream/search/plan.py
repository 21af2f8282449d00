"""What PostgreSQL's plan says about how rows are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.search.answer import Method


def method_of(plan: Any, *, by_words: bool = False) -> Method:  # noqa: ANN401 - as PostgreSQL's EXPLAIN gives it
    """Of an EXPLAIN (FORMAT JSON): a scan of the vector index has an order, and one of the word index their words."""
    nodes = list(_nodes(plan[0]["Plan"]))
    if by_words:
        conditions = [node.get("Index Cond", "") for node in nodes]
        return "index" if any("to_tsvector" in condition for condition in conditions) else _filtered(nodes)
    return "index" if any("Order By" in node for node in nodes) else _filtered(nodes)


def _filtered(nodes: list[dict[str, Any]]) -> Method:
    return "filter" if any("metadata" in node.get("Index Cond", "") for node in nodes) else "exact"


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
