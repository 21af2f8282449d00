"""The words of a text, as searches and their index have them."""

from __future__ import annotations

from psycopg.sql import SQL

# What has these inside is one word to the parser, or a host, or a file: its parts would not be found.
JOINING = "./_-:@"
# A tsvector holds 1 MiB: of a text of any words so much fits, and longer ones are found by their beginning.
CHARACTERS = 200_000
# Of one character each, so that places stay those of the text.
WORDS = SQL(f"to_tsvector('simple', translate(left(text, {CHARACTERS}), '{JOINING}', '{' ' * len(JOINING)}'))")
# The same as PostgreSQL writes it in the definition of an index.
WORDS_AS_DEFINED = (
    f"to_tsvector('simple'::regconfig, translate(\"left\"(text, {CHARACTERS}), "
    f"'{JOINING}'::text, '{' ' * len(JOINING)}'::text))"
)
