"""How the texts of a micro-batch are divided among requests, and how their answers come back."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, TypeVar

from embedstream.limits import REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

T = TypeVar("T")

# A fast service is done with a micro-batch in this time; a slow one needs longer for a single request.
_TOGETHER_SECONDS = 0.05


def chunks_of(texts: Sequence[str], order: Sequence[int], most: int) -> Iterator[list[int]]:
    """Positions in this order, at most so many at a time, and several only where they have no more than REQUEST_BYTES.

    A character counts as one byte: the limit keeps requests small, and need not be exact.
    """
    chunk: list[int] = []
    size = 0
    for position in order:
        length = len(texts[position])
        if chunk and (len(chunk) == most or size + length > REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(position)
        size += length
    if chunk:
        yield chunk


def as_they_come(
    futures: dict[Future[list[T]], list[int]],
) -> Iterator[Sequence[tuple[int, T]]]:
    """What is done at a time comes together: fewer transactions where the service is fast, and none late where not."""
    pending: Collection[Future[list[T]]] = futures
    while pending:
        done, pending = wait(pending, _TOGETHER_SECONDS)
        if not done:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield [pair for future in done for pair in zip(futures[future], future.result(), strict=True)]
