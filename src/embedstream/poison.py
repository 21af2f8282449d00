"""The search for texts on which the embedding service fails as a whole, among others that it embeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from embedstream.errors import EmbedstreamError, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.ingest import Embedded

Result: TypeAlias = "Embedded | Rejected"

_CHARGED_AFTER = 2


class Failed(EmbedstreamError):
    """The service failed on these very texts; it remains to be seen whether one of them is to blame."""


class Search:
    """Embeds texts; charges a text that failed twice alone, each time after the service answered for something else.

    `attempt` raises Failed; `prove_alive` returns once the service has answered for a harmless text, however long that
    takes. One poison among n texts costs log2(n) + 4 attempts and proofs after the first attempt: halves that succeed
    are done with, and what was left aside on the way is attempted in one piece.
    """

    def __init__(
        self,
        texts: Sequence[str],
        attempt: Callable[[Sequence[str]], Sequence[Result]],
        prove_alive: Callable[[], None],
    ) -> None:
        self._texts = texts
        self._attempt = attempt
        self._prove_alive = prove_alive
        self._results: dict[int, Result] = {}
        self._failing: list[int] = []
        self._failure = Failed("no attempt")
        # Whether the service answered for other texts since a failure was last held against one.
        self._is_alive = False

    def run(self) -> list[Result]:
        while left := self._left():
            if left == self._failing or not self._succeeds(left):
                self._judge(*self._narrow(left))
        return [self._results[position] for position in range(len(self._texts))]

    def _left(self) -> list[int]:
        return [position for position in range(len(self._texts)) if position not in self._results]

    def _succeeds(self, positions: list[int]) -> bool:
        try:
            results = self._attempt([self._texts[position] for position in positions])
        except Failed as exc:
            self._failure = exc
            self._failing = positions
            return False
        self._results.update(zip(positions, results, strict=True))
        self._is_alive = True
        return True

    def _narrow(self, suspects: list[int]) -> tuple[int, int]:
        """One text that may be to blame for the failure of all of these, and how many failures count against it."""
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            if self._succeeds(half):
                suspects = suspects[len(half) :]
                continue
            suspects = half
            if not self._is_alive:
                self._prove()
            elif len(half) == 1:
                self._is_alive = False
                return half[0], 1
        return suspects[0], 0

    def _judge(self, suspect: int, failures: int) -> None:
        while failures < _CHARGED_AFTER:
            if not self._is_alive:
                self._look_elsewhere(suspect)
            if self._succeeds([suspect]):
                return
            self._is_alive = False
            failures += 1
        reason = f"the embedding service fails on this text, but not on others: {self._failure}"
        self._results[suspect] = Rejected("embed", "service_failed", reason)

    def _look_elsewhere(self, suspect: int) -> None:
        others = [position for position in self._left() if position != suspect]
        if not others or others == self._failing or not self._succeeds(others):
            self._prove()

    def _prove(self) -> None:
        self._prove_alive()
        self._is_alive = True
