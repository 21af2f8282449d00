"""Schemas that a registry does not know: how long they are waited for, and what is remembered of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

SchemaId: TypeAlias = int | UUID

SECONDS_UNKNOWN = 30.0
"""How long a schema that the registry does not know is asked for again: what answers may lag behind what registers."""
SECONDS_IN_VAIN = 600.0
MOST_UNKNOWN = 10_000


class Unknown:
    """Ids that the registry does not know: since when, and which of them are settled.

    A topic whose bytes only look framed has many: each wait in vain halves the time for the next id, until ten minutes
    have passed without one. A settled id is asked for again after these ten minutes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: OrderedDict[SchemaId, float] = OrderedDict()
        self._settled: OrderedDict[SchemaId, float] = OrderedDict()
        self._seconds = SECONDS_UNKNOWN
        self._in_vain_at = 0.0

    def is_settled(self, id: SchemaId) -> bool:
        at = self._settled.get(id)
        return at is not None and self._clock() - at < SECONDS_IN_VAIN

    def is_up(self, id: SchemaId) -> bool:
        """Note that the id is unknown still; whether its time is up."""
        now = self._clock()
        if now - self._in_vain_at >= SECONDS_IN_VAIN:
            self._seconds = SECONDS_UNKNOWN
        if id not in self._settled and now - self._since.setdefault(id, now) < self._seconds:
            _trim(self._since)
            return False
        if id not in self._settled:
            self._seconds, self._in_vain_at = self._seconds / 2, now
        self._since.pop(id, None)
        self._settled[id] = now
        _trim(self._settled)
        return True

    def forget(self, id: SchemaId) -> None:
        self._since.pop(id, None)
        self._settled.pop(id, None)


def _trim(ids: OrderedDict[SchemaId, float]) -> None:
    while len(ids) > MOST_UNKNOWN:
        ids.popitem(last=False)
