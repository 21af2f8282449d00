"""A pipeline's decoder, made ready from its settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedstream.decode import default
from embedstream.decode.message import Rules

if TYPE_CHECKING:
    from embedstream.decode.message import Decode
    from embedstream.settings import Settings


def headers_of(settings: Settings) -> tuple[str, ...]:
    """The names of the headers that records must carry for the decoder."""
    if settings.decoding is None:
        return ()
    from embedstream.decode.decoder import headers_read  # noqa: PLC0415 - as below

    return tuple(sorted(headers_read(settings.decoding)))


def decoder_of(settings: Settings, model_name: str | None, *former_models: str) -> Decode:
    """What the settings make of a record, held against the table's model (None: any will do), or one it had before.

    Raises ConfigError where something is missing that the mapping needs, such as a .proto file.
    """
    rules = Rules.of(settings, model_name, *former_models)
    decoding = settings.decoding
    if decoding is None:
        return default.decoder(rules)
    # Without a file nothing of it is needed, and some of it takes a while to load.
    from embedstream.decode.decoder import build  # noqa: PLC0415
    from embedstream.decode.formats import reader  # noqa: PLC0415
    from embedstream.decode.registry import Registry  # noqa: PLC0415

    registry = Registry(decoding.registry, Path()) if decoding.registry else None
    formats = decoding.formats
    read_key = reader(formats.key, "key", registry, Path())
    read_value = reader(formats.value, "value", registry, Path())
    return build(decoding, rules, read_key, read_value)
