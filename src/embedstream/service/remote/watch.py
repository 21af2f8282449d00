"""Looks whether a remote server still embeds as it did, and whether a standstill is over."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from embedstream import canary
from embedstream.service.remote.errors import Busy, Failed, Refused, RemoteError, Stopped
from embedstream.service.remote.judge import FIRST_RETRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.remote.client import Remote
    from embedstream.service.remote.errors import Code
    from embedstream.service.remote.gateway import Gateway

logger = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
CANARY_TOKENS = sum(len(text.encode()) for text in canary.TEXTS) // 4
_LONGEST_RETRY = {"remote_failing": 30.0, "remote_busy": 60.0}
_OPERATOR_RETRY = 300.0
_SOON = 60.0


class Watch:
    """A thread beside a gateway. `vectors` are the canary's latest."""

    def __init__(
        self, gateway: Gateway, remote: Remote, identity: str | None, vectors: Vectors, clock: Callable[[], float]
    ) -> None:
        self.vectors = vectors
        self._first = vectors
        self._gateway = gateway
        self._remote = remote
        self._identity = identity
        self._clock = clock
        self._due = clock() + EVERY_SECONDS
        self._tries = 0
        threading.Thread(target=self._run, name="canary", daemon=True).start()

    def _run(self) -> None:
        while self._wait():
            try:
                self.look()
            except Exception:
                logger.exception("the look at the remote server went wrong")

    def _wait(self) -> bool:
        """Until there is a reason to look; false means the end."""
        changed = self._gateway.changed
        with changed:
            while not self._gateway.ended:
                retry = self._gateway.retries_at
                seconds = (self._due if retry is None else retry) - self._clock()
                if seconds <= 0:
                    return True
                changed.wait(seconds)
        return False

    def look(self) -> None:
        """Compare with what the server gave first, and go on, or stand still."""
        trouble = self._gateway.trouble
        try:
            moved = self._moved()
        except Stopped as exc:
            self._stand_still(exc.code, str(exc))
        except RemoteError as exc:
            self._due = self._clock() + _SOON
            if isinstance(exc, Busy):
                with self._gateway.changed:
                    self._gateway.budget.refused(exc.wait, exc.headers)
            if trouble:
                self._stand_still(_code_of(exc), str(exc))
        else:
            self._due = self._clock() + EVERY_SECONDS
            if moved:
                self._stand_still("space_moved", moved)
                return
            self._tries = 0
            self._gateway.go_on()

    def _moved(self) -> str | None:
        """What has changed, in words; raises RemoteError."""
        if self._identity is not None:
            identity = self._remote.ask().identity
            if identity != self._identity:
                return (
                    f"the model of {self._remote.url} is {identity} now, and was {self._identity}: put that back, or "
                    "restart the service, and use another table"
                )
        answer = self._gateway.ask(canary.TEXTS, CANARY_TOKENS)
        if answer.unusable:
            raise Failed(f"{self._remote.url} gives vectors that are zero, or not finite")
        self.vectors = answer.vectors
        cosine = canary.least_cosine(self._first, answer.vectors)
        if cosine >= canary.LEAST_COSINE:
            return None
        return (
            f"the vectors of {self._remote.url} moved: the least cosine to those at the start of the service is "
            f"{cosine:.4f}, and should be at least {canary.LEAST_COSINE}: put its model back, or restart the service, "
            "and use another table"
        )

    def _stand_still(self, code: Code, message: str) -> None:
        longest = _LONGEST_RETRY.get(code, _OPERATOR_RETRY)
        seconds = min(longest, FIRST_RETRY * 2.0**self._tries)
        self._tries = min(self._tries + 1, 10)
        self._gateway.stand_still(code, message, seconds)


def _code_of(error: RemoteError) -> Code:
    if isinstance(error, Busy):
        return "remote_busy"
    return "remote_refuses" if isinstance(error, Refused) else "remote_failing"
