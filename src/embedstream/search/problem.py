"""What goes wrong with a search, beside what may go wrong with the table and the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.errors import ConfigError, RetryLater

if TYPE_CHECKING:
    from collections.abc import Mapping


class InvalidRequest(ConfigError):
    """What was asked for cannot be looked for; one sentence says why."""


class NotReached(RetryLater):
    """The table is not as far yet as the search was to wait for; `as_of` is how far it came."""

    def __init__(self, message: str, as_of: Mapping[int, int]) -> None:
        super().__init__(message)
        self.as_of = dict(as_of)
