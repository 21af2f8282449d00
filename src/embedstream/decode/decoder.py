"""From a record to what a pipeline makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.decode import default

if TYPE_CHECKING:
    from embedstream.decode.message import Decode, Read, Rules
    from embedstream.decode.spec import Decoding


def build(decoding: Decoding, rules: Rules, read_key: Read, read_value: Read) -> Decode:
    """What decodes one record; it gives nothing where the record is filtered, and raises Rejected or RetryLater.

    A reader with an attribute `header` is handed what stands in that header, too. Raises ExpressionError (a ConfigError
    with the field's path and a column) for what cannot mean anything.
    """
    if decoding.is_default:
        return default.decoder(rules)
    from embedstream.decode.mapped import Mapped  # noqa: PLC0415 - its libraries are an extra

    return Mapped(decoding, rules, read_key, read_value)


def headers_read(decoding: Decoding) -> frozenset[str]:
    """The names of the headers that records must carry for this; raises ExpressionError."""
    if decoding.is_default:
        return frozenset()
    from embedstream.decode.plan import plan  # noqa: PLC0415 - as above

    formats = decoding.formats
    framed = {"__key_schema_id": formats.key, "__value_schema_id": formats.value}
    return plan(decoding).headers | {name for name, written in framed.items() if written == "registry"}
