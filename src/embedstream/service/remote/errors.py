"""What can go wrong with a remote server, divided by what the gateway does next."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from embedstream.errors import EmbedstreamError, RetryLater

if TYPE_CHECKING:
    from collections.abc import Mapping

Code = Literal[
    "remote_busy", "remote_failing", "remote_not_found", "remote_quota", "remote_refuses", "remote_unauthorized",
    "space_moved", "daily_limit",
]  # fmt: skip


class Standstill(RetryLater):
    """Nothing is embedded at the moment, whatever the text; `code` is stable and meant for programs."""

    def __init__(self, code: Code, message: str, retry_after: float) -> None:
        super().__init__(message, retry_after)
        self.code = code
        self.retry_after: float = retry_after

    @property
    def status(self) -> HTTPStatus:
        is_limit = self.code in ("remote_busy", "daily_limit")
        return HTTPStatus.TOO_MANY_REQUESTS if is_limit else HTTPStatus.SERVICE_UNAVAILABLE


class TextRefused(EmbedstreamError):
    """The remote server takes other texts, but not the one at `index`."""

    def __init__(self, index: int, code: Literal["text_too_long", "text_refused"], message: str) -> None:
        super().__init__(message)
        self.index = index
        self.code = code


class RemoteError(EmbedstreamError):
    """Base of what one request can end with; the message quotes neither a text nor the key."""


class Busy(RemoteError):
    """The server asks for patience: for `wait` seconds, where it says so; `headers` are those of its answer."""

    def __init__(self, message: str, wait: float | None, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.wait = wait
        self.headers = headers


class Refused(RemoteError):
    """The server will not have these very texts, or not so many at a time; `said` is its own sentence, which may quote
    a text.
    """

    def __init__(self, message: str, said: str, *, is_too_long: bool) -> None:
        super().__init__(message)
        self.said = said
        self.is_too_long = is_too_long


class Failed(RemoteError):
    """No usable answer: the server, the way to it, or one of the texts is to blame.

    `is_too_long` where it says that a text is too much for it.
    """

    def __init__(self, message: str, *, is_too_long: bool = False) -> None:
        super().__init__(message)
        self.is_too_long = is_too_long


class Stopped(RemoteError):
    """Only the operator can help."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
