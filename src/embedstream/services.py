"""Which embedding service a table's vectors are of: the one that is set, or the one that a migration left with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream import embedding, store
from embedstream.errors import EmbeddingUnavailable, EmbedstreamError

if TYPE_CHECKING:
    from embedstream.settings import Settings
    from embedstream.space import Space


def read_space(settings: Settings) -> Space:
    """The space of the service that is set; where the table is of another one, of the service that goes with the table.

    Raises as `embedding.read_space`.
    """
    return find(settings)[1]


def find(settings: Settings) -> tuple[Settings, Space]:
    """Settings that lead to that service, and its space."""
    noted = _noted(settings)
    try:
        offered = embedding.read_space(settings)
    except EmbeddingUnavailable:
        if noted is None:
            raise
        return noted[0], embedding.read_space(noted[0])
    if noted is None or offered == noted[1]:
        return settings, offered
    try:
        also = embedding.read_space(noted[0])
    except EmbedstreamError:
        return settings, offered
    return (noted[0], also) if also == noted[1] else (settings, offered)


def _noted(settings: Settings) -> tuple[Settings, Space | None] | None:
    """Settings that lead to the table's own service, and its space; None where no migration left one."""
    try:
        with store.database(settings) as connection:
            url = store.read_service(connection, settings).url
            if url is None or url == settings.embedding_service_url:
                return None
            return settings.model_copy(update={"embedding_service_url": url}), store.read_space(connection, settings)
    except EmbedstreamError:
        return None
