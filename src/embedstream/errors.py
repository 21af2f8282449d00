"""The errors that embedstream raises, divided by what the caller does next.

::

    EmbedstreamError
    ├── ConfigError            stop; one sentence says what to change
    ├── RetryLater             the outside world failed; try the same again after a while
    │   ├── EmbeddingUnavailable
    │   ├── RegistryUnavailable
    │   └── StoreUnavailable
    ├── SpaceMoved             the table holds vectors of another model by now; embed with that one
    └── Rejected               this record can never succeed: it is a dead letter
"""

from __future__ import annotations

from typing import Literal

Stage = Literal["decode", "embed", "store"]


class EmbedstreamError(Exception):
    """Base of every error of this package."""


class ConfigError(EmbedstreamError):
    """Something that the operator set, or forgot to start, prevents the work."""


class RetryLater(EmbedstreamError):
    """The outside world failed; no message is to blame.

    `retry_after` is the delay in seconds that the other side asked for, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EmbeddingUnavailable(RetryLater):
    """The embedding service gives no usable answer at the moment."""


class RegistryUnavailable(RetryLater):
    """The schema registry gives no usable answer at the moment, or does not know a schema yet."""


class StoreUnavailable(RetryLater):
    """PostgreSQL takes no statements at the moment."""


class SpaceMoved(EmbedstreamError):
    """The table was cut over to another space since its space was read: what was embedded is not for it."""


class Rejected(EmbedstreamError):
    """One record that can never succeed.

    `code` is stable and meant for programs; `reason` is one sentence for people and
    quotes no document text.
    """

    def __init__(self, stage: Stage, code: str, reason: str) -> None:
        super().__init__(f"{stage}: {code}: {reason}")
        self.stage: Stage = stage
        self.code = code
        self.reason = reason
