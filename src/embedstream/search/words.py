"""Words as PostgreSQL looks for them: identifiers, paths and addresses are their parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg.sql import SQL

from embedstream.decode.fields import storable
from embedstream.store.words import CHARACTERS, JOINING

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKED = SQL(
    f"ts_headline('simple', translate(left(text, {CHARACTERS}), '{JOINING}' || chr(2) || chr(3),"
    f" '{' ' * (len(JOINING) + 2)}'), websearch_to_tsquery('simple', %(marking)s),"
    " 'HighlightAll=true, StartSel=' || chr(2) || ', StopSel=' || chr(3))"
)
_TERM = re.compile(r'-?"[^"]*"?|\S+')
_SEPARATE = str.maketrans(dict.fromkeys(JOINING, " "))


def websearch(query: str) -> str:
    """The query for websearch_to_tsquery: quoted phrases, `or` and a `-` before a word keep their meaning."""
    return " ".join(_term(term) for term in _TERM.findall(str(storable(query))))


def any_of(query: str) -> str | None:
    """What finds texts with some of the words alone; None where that is the same."""
    found = [_term(term) for term in _TERM.findall(str(storable(query)))]
    words = [part for term in found if not term.startswith("-") for part in _parts(term) if part.lower() != "or"]
    return " or ".join(words) if len(words) > 1 else None


def _parts(term: str) -> Sequence[str]:
    return [term] if '"' in term else term.split()


def _term(term: str) -> str:
    """What is not to be there is so as a whole; of what is to be there each part is."""
    negated = term.startswith("-")
    body = term.removeprefix("-").translate(_SEPARATE).strip()
    if not body:
        return ""
    if negated and " " in body and not body.startswith('"'):
        body = f'"{body}"'
    return f"-{body}" if negated else body


def spans(text: str, headline: str) -> tuple[tuple[int, int], ...]:
    """The characters of the text that are marked in its headline; none where that is not the text with marks."""
    found, place = [], 0
    for part in re.split("\x02", headline):
        inside, mark, after = part.partition("\x03")
        if mark:
            found.append((place, place + len(inside)))
        place += len(inside) + len(after)
    return tuple(found) if place == min(len(text), CHARACTERS) else ()
