"""What the checks of a pipeline file take from the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.decode import default
from embedstream.decode.message import Rules
from embedstream.errors import ConfigError
from embedstream.pipelines.expressions import Tools
from embedstream.settings import DEFAULT_MAX_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.decode.message import Delete, Message, Record
    from embedstream.decode.spec import Decoding

TOOLS = Tools()


def decode(decoding: Decoding, record: Record) -> Sequence[Message | Delete]:
    """What becomes of a record whose key and value are JSON, whatever the format; none where it is filtered.

    Raises Rejected.
    """
    rules = Rules(None, DEFAULT_MAX_TEXT_BYTES, decoding.version_by)
    if not decoding.model_copy(update={"version": None}).is_default:
        raise ConfigError("this version runs tests of the default shape alone")
    return [default.decode(record, rules)]
