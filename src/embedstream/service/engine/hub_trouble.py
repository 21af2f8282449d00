"""What goes wrong at the Hub, as one sentence of what to do, and whether to ask again."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import httpx2
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from embedstream.errors import ConfigError, EmbedstreamError, RetryLater

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHORT_COMMIT = re.compile(r"[0-9a-f]{4,39}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PASSES = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class HubUnavailable(RetryLater):
    """The Hub, or the way to it, gives no usable answer at the moment."""


class Asked(NamedTuple):
    """Which model is asked for, where, and by whom; `offline` names the setting that forbids to ask."""

    name: str
    revision: str | None
    endpoint: str
    cache: Path
    has_token: bool
    offline: str | None

    def __str__(self) -> str:
        return f"{self.name} at {self.revision}" if self.revision else self.name


@contextmanager
def explained(asked: Asked) -> Iterator[None]:
    """Raises ConfigError, or HubUnavailable where the same may go well later."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, AssertionError, httpx2.HTTPError) as exc:
        raise _explain(exc, asked) from exc


def _explain(exc: Exception, asked: Asked) -> EmbedstreamError:
    match exc:
        case LocalEntryNotFoundError():
            return _not_here(exc, asked)
        case HfHubHTTPError():
            return _said_by_hub(exc, asked)
        case httpx2.HTTPError():
            return _of_way(exc, asked)
        case OSError():
            return _of_system(exc, asked)
        case RuntimeError():
            return HubUnavailable(f"{asked} cannot be fetched ({_short(exc)}); HF_HUB_DISABLE_XET=1 fetches it by HTTP")
        case _:
            return ConfigError(f"{asked.endpoint} does not answer as the Hub does ({_short(exc)}): check HF_ENDPOINT")


def _not_here(exc: LocalEntryNotFoundError, asked: Asked) -> EmbedstreamError:
    """What is not in the cache, and did not come for the reason that is the cause."""
    if asked.offline:
        is_part = isinstance(exc, IncompleteSnapshotError)
        lacks, rest = (f"only a part of {asked} is", "the rest") if is_part else (f"{asked} is not", "it")
        return ConfigError(
            f"{lacks} in the cache {asked.cache}, and {asked.offline} forbids to fetch {rest}: "
            f"embedstream model pull {asked.name} where there is a network"
        )
    if isinstance(exc.__cause__, Exception):
        return _explain(exc.__cause__, asked)
    return HubUnavailable(f"{asked} cannot be fetched ({_short(exc)})")


def _said_by_hub(exc: HfHubHTTPError, asked: Asked) -> EmbedstreamError:
    match exc:
        case GatedRepoError():
            return ConfigError(
                f"{asked.name} is gated: accept its conditions at {asked.endpoint}/{asked.name}, and set HF_TOKEN to a "
                "token of who did"
            )
        case RepositoryNotFoundError():
            other = "HF_TOKEN may not read it" if asked.has_token else "it is private, which needs HF_TOKEN"
            return ConfigError(f"there is no model {asked.name} at {asked.endpoint}, or {other}: check EMBEDDING_MODEL")
        case RevisionNotFoundError():
            return ConfigError(_unknown_revision(asked))
        case DisabledRepoError():
            return ConfigError(f"{asked.endpoint} has disabled {asked.name}: use another model")
        case _:
            return _of_status(exc, asked)


def _unknown_revision(asked: Asked) -> str:
    if asked.revision and _SHORT_COMMIT.fullmatch(asked.revision):
        return f"{asked.name} has no branch {asked.revision}, and a commit needs all of its 40 digits: give them all"
    return f"{asked.name} has no branch, tag or commit {asked.revision}: check EMBEDDING_MODEL_REVISION"


def _of_status(exc: HfHubHTTPError, asked: Asked) -> EmbedstreamError:
    status, said = exc.response.status_code, exc.response.headers.get("X-Error-Message", "")
    if status in _PASSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return HubUnavailable(f"{asked.endpoint} answers HTTP {status}")
    if status == HTTPStatus.UNAUTHORIZED:
        return ConfigError(f"{asked.endpoint} refuses HF_TOKEN as unknown or expired: set another one, or none")
    if status == HTTPStatus.FORBIDDEN:
        return ConfigError(f"HF_TOKEN has no right to read {asked.name} ({said or 'HTTP 403'}): give it that right")
    if "xet-read-token" in str(exc.response.url):
        return ConfigError(
            f"{asked.endpoint} offers Xet without its routes, as some mirrors do: set HF_HUB_DISABLE_XET=1"
        )
    return ConfigError(f"{asked.endpoint} answers HTTP {status} for {asked}: check HF_ENDPOINT")


def _of_way(exc: httpx2.HTTPError, asked: Asked) -> EmbedstreamError:
    if "CERTIFICATE_VERIFY_FAILED" in str(exc):
        return ConfigError(
            f"{asked.endpoint} has a certificate of an unknown authority: set SSL_CERT_FILE to the authority's own"
        )
    return HubUnavailable(f"{asked.endpoint} does not answer, or breaks off ({_short(exc)})")


def _of_system(exc: OSError, asked: Asked) -> EmbedstreamError:
    if isinstance(exc, FileMetadataError):
        return ConfigError(
            f"{asked.endpoint} leaves out headers of the Hub (X-Repo-Commit, ETag, Content-Length), as some mirrors "
            "do: set HF_ENDPOINT to one that passes them on, or pull the model elsewhere and copy the cache"
        )
    if exc.errno in _FULL:
        return ConfigError(
            f"the disk of {asked.cache} is full: free some of it, or set EMBEDDING_MODEL_CACHE to a larger one"
        )
    if exc.errno is not None and not isinstance(exc, ConnectionError | TimeoutError):
        return ConfigError(f"cannot write to {asked.cache} ({exc.strerror}): set EMBEDDING_MODEL_CACHE")
    return HubUnavailable(f"{asked} came with errors ({_short(exc)})")


def _short(exc: Exception) -> str:
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
