"""What the checks of a pipeline file take from the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedstream.decode.decoder import build
from embedstream.decode.expressions import compile_expression
from embedstream.decode.formats import json_reader, reader
from embedstream.decode.message import Rules
from embedstream.decode.plan import plan
from embedstream.pipelines.expressions import Tools
from embedstream.settings import DEFAULT_MAX_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.decode.message import Item, Record
    from embedstream.decode.spec import Decoding

TOOLS = Tools(lambda text, has_item: compile_expression(text, item=has_item), plan)


def decode(decoding: Decoding, record: Record) -> Sequence[Item]:
    """What becomes of a record whose key and value are JSON, whatever the format; none where it is filtered.

    Raises Rejected.
    """
    rules = Rules(None, DEFAULT_MAX_TEXT_BYTES, decoding.version_by)
    read_key = reader("text", "key", None, Path()) if decoding.formats.key == "text" else json_reader("key")
    return build(decoding, rules, read_key, json_reader("value"))(record)
