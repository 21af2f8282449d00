"""Semantic search: what is asked for, and what is found."""

from embedstream.search.rows import (
    Document,
    Hit,
    Wishes,
    nearest,
    nearest_documents,
    parse_where,
    search,
    search_documents,
)

__all__ = [
    "Document",
    "Hit",
    "Wishes",
    "nearest",
    "nearest_documents",
    "parse_where",
    "search",
    "search_documents",
]
