"""What a request that failed means: for its texts, or for all."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from embedstream import canary
from embedstream.service.batching import EngineFailed
from embedstream.service.remote.errors import Busy, Failed, Refused, RemoteError, Stopped, TextRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.errors import EmbedstreamError
    from embedstream.service.remote.gateway import Gateway
    from embedstream.service.remote.packs import Item

logger = logging.getLogger(__name__)

FIRST_RETRY = 2.0
_HARMLESS = canary.TEXTS[0]
_PROBES_AFTER = (0.0, 0.5, 1.0, 2.0, 4.0)
_CHARGED_AFTER = 2
_LONG_PAUSE = 20.0


class Judge:
    """Blames a text only where the server embeds a harmless one right afterwards; else everything stands still."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        self._gateway = gateway
        self._url = url
        self._probing = threading.Lock()

    def __call__(self, pack: Sequence[Item], error: RemoteError, began: float) -> None:
        """What a request that failed means for its texts."""
        if isinstance(error, Busy):
            self._pause(pack, error)
        elif isinstance(error, Stopped):
            self._gateway.stand_still(error.code, str(error), FIRST_RETRY)
        elif isinstance(error, Refused) and len(pack) > 1:
            self._divide(pack)
        elif len(pack) == 1 and isinstance(error, Refused | Failed) and error.is_too_long:
            self._charge(pack[0], error)
        elif self._is_alive(began):
            self._blame(pack, error)

    def _pause(self, pack: Sequence[Item], error: Busy) -> None:
        with self._gateway.changed:
            seconds = self._gateway.budget.refused(error.wait, error.headers)
            self._gateway.queue.put_back(pack)
            self._gateway.changed.notify_all()
        if seconds > _LONG_PAUSE:
            self._gateway.stand_still("remote_busy", f"{error}, and to come again in {seconds:.0f} s", seconds)

    def _divide(self, pack: Sequence[Item]) -> None:
        with self._gateway.changed:
            self._gateway.queue.divide(pack)
            self._gateway.changed.notify_all()

    def _blame(self, pack: Sequence[Item], error: RemoteError) -> None:
        """The server embeds other texts."""
        if len(pack) > 1:
            self._divide(pack)
            return
        [item] = pack
        item.strikes += 1
        if item.strikes >= _CHARGED_AFTER:
            self._charge(item, error)
            return
        with self._gateway.changed:
            self._gateway.queue.put_back(pack)
            self._gateway.changed.notify_all()

    def _charge(self, item: Item, error: RemoteError) -> None:
        most, url = self._gateway.facts.max_tokens, self._url

        def of(row: int) -> EmbedstreamError:
            if isinstance(error, Refused | Failed) and error.is_too_long:
                message = f"the text is too long for the remote model, which reads {most} tokens: {error}"
                return TextRefused(row, "text_too_long", message)
            if isinstance(error, Refused):
                return TextRefused(row, "text_refused", f"{url} refuses the text, but not others: {error}")
            return EngineFailed(row)

        logger.warning("a text of about %d tokens gets no vector: %s", item.tokens, error)
        with self._gateway.changed:
            self._gateway.queue.charge(item, of)
            self._gateway.changed.notify_all()

    def _is_alive(self, began: float) -> bool:
        """Whether the server embeds a harmless text; where not, everything stands still."""
        with self._probing:
            for seconds in _PROBES_AFTER:
                if self._gateway.latest_success > began and not seconds:
                    return True
                with self._gateway.changed:
                    if self._gateway.changed.wait_for(lambda: self._gateway.ended or self._gateway.trouble, seconds):
                        return False
                error = self._probe()
                if error is None:
                    return True
            self._gateway.stand_still("remote_failing", f"{error}", FIRST_RETRY)
            return False

    def _probe(self) -> RemoteError | None:
        """Embed a harmless text; stands still at once where only the operator can help."""
        try:
            answer = self._gateway.ask([_HARMLESS], len(_HARMLESS) // 4)
        except Stopped as exc:
            self._gateway.stand_still(exc.code, str(exc), FIRST_RETRY)
            return exc
        except Refused as exc:
            self._gateway.stand_still("remote_refuses", f"{exc}, to a harmless text: {exc.said}", FIRST_RETRY)
            return exc
        except Busy as exc:
            with self._gateway.changed:
                self._gateway.budget.refused(exc.wait, exc.headers)
            return None
        except RemoteError as exc:
            return exc
        if answer.unusable:
            return Failed(f"{self._url} gives a vector that is zero, or not finite, for a harmless text")
        return Failed("its vectors have another dimension") if self._gateway.has_moved(answer.vectors) else None
