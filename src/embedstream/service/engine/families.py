"""What is known of families of models and not in their files: prompts that their makers trained them with, and which
of them bear to be cut to fewer dimensions.

Texts of the prompts: the models' cards, as MTEB's metadata holds them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_REPRESENT = "Represent this sentence for searching relevant passages: "


class Family(NamedTuple):
    """Models whose names match `names`, and what stands before texts to be found, and before those to search with."""

    names: re.Pattern[str]
    passage: str
    query: str
    nested: bool = False
    """Whether the first of a vector's dimensions are a vector by themselves (Matryoshka)."""


def _family(names: str, passage: str = "", query: str = "", *, nested: bool = False) -> Family:
    return Family(re.compile(names, re.IGNORECASE), passage, query, nested)


_QWEN = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
_FAMILIES = (
    _family(r"e5.*-instruct", "", "Instruct: Given a web search query, retrieve relevant passages\nQuery: "),
    _family(r"(^|[-_/])e5-", "passage: ", "query: "),
    _family(r"bge-(small|base|large)-en", "", _REPRESENT),
    _family(r"mxbai-embed-(large|xsmall)", "", _REPRESENT, nested=True),
    _family(r"arctic-embed-.*v2", "", "query: ", nested=True),
    _family(r"arctic-embed-m-v1\.5", "", _REPRESENT, nested=True),
    _family(r"arctic-embed", "", _REPRESENT),
    _family(r"mdbr-leaf-ir", "", _REPRESENT, nested=True),
    _family(r"nomic-embed-text|modernbert-embed", "search_document: ", "search_query: ", nested=True),
    _family(r"embeddinggemma", "title: none | text: ", "task: search result | query: ", nested=True),
    _family(r"qwen3-embedding", "", _QWEN, nested=True),
)


def family_of(name: str) -> Family | None:
    """The family of a model of that name, None where nothing is known of it."""
    return next((family for family in _FAMILIES if family.names.search(name)), None)
