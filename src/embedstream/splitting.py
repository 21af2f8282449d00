"""How a pipeline's long texts are divided, by the tokenizer of the service's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream import embedding

if TYPE_CHECKING:
    from embedstream.decode.chunks import Splitter
    from embedstream.settings import Settings
    from embedstream.space import Space


def splitter_of(settings: Settings, space: Space) -> Splitter | None:
    """None where a text is one row.

    Raises EmbeddingUnavailable where the service is away, ConfigError where its model has no tokenizer or reads less.
    """
    if settings.chunks is None:
        return None
    from embedstream.decode.chunks import Splitter  # noqa: PLC0415 - of the extra `decode`

    return Splitter(settings.chunks, embedding.read_tokenizer(settings, space))
