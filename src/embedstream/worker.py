"""What a Flink worker's own environment decides of the settings that it was submitted with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

OF_WORKERS = ("EMBEDDING_SERVICE_", "EMBEDDING_API_KEY", "PGVECTOR_")
"""What the variables begin with that a worker's own environment decides."""


def worker_settings(submitted: Settings) -> Settings:
    """The settings of a Flink worker: the submitter's, but what the worker's own environment says of the service
    and of the database wins.

    A difference is logged with both values, unless it is a secret. What else cannot be used there is passed over with
    a warning. Raises ConfigError for what would win.
    """
    own = _own_settings(submitted)
    names = [name for name in sorted(own.model_fields_set) if name.upper().startswith(OF_WORKERS)]
    differing = {name: getattr(own, name) for name in names if getattr(own, name) != getattr(submitted, name)}
    for name, value in differing.items():
        logger.warning("%s is %s here, but was submitted as %s", name.upper(), value, getattr(submitted, name))
    return submitted.model_copy(update=differing)


def _own_settings(submitted: Settings) -> Settings:
    try:
        return load_settings()
    except ConfigError as exc:
        own = load_settings(**{name: value for name, value in submitted if not name.upper().startswith(OF_WORKERS)})
        logger.warning("passed over, since a worker has no use for it: %s", exc)
        return own
