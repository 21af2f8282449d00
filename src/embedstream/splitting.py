"""How a pipeline's long texts are divided, by the tokenizer of the service's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream import embedding
from embedstream.errors import ConfigError, EmbeddingUnavailable

if TYPE_CHECKING:
    from embedstream.decode.chunks import Splitter
    from embedstream.settings import Settings
    from embedstream.space import Space, Tokenizer


def splitter_of(settings: Settings, space: Space, also: str | None = None) -> Splitter | None:
    """None where a text is one row. `also` is another address at which the service of the space may be.

    Raises EmbeddingUnavailable where the service is away, ConfigError where its model has no tokenizer or reads less.
    """
    if settings.chunks is None:
        return None
    from embedstream.decode.chunks import Splitter  # noqa: PLC0415 - of the extra `decode`

    return Splitter(settings.chunks, _tokenizer(settings, space, also))


def _tokenizer(settings: Settings, space: Space, also: str | None) -> Tokenizer:
    try:
        return embedding.read_tokenizer(settings, space)
    except (EmbeddingUnavailable, ConfigError):
        if also in (None, settings.embedding_service_url):
            raise
    return embedding.read_tokenizer(settings.model_copy(update={"embedding_service_url": also}), space)
