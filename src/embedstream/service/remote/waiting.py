"""The requests that wait for a remote server, and the texts of theirs that do: a text for which several wait is one."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from embedstream.service.batching import Pending, QueueFull
from embedstream.service.remote.packs import Item, Packs, Taker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.errors import EmbedstreamError
    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.remote.texts import Prepared

_MEMORY_BYTES = 64 << 20
_RATE_SECONDS = 60.0
_LONGEST_RETRY_SECONDS = 60


class Queue:
    """Not safe for threads: its owner has a lock.

    The latest vectors are kept: whoever gave up waiting and asks again pays for nothing twice.
    """

    def __init__(
        self, packs: Packs, dimension: int, texts: int, requests: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.packs = packs
        self.accepted = 0
        """Texts that wait, or are under way."""
        self._dimension = dimension
        self._most_texts = texts
        self._most_requests = requests
        self._clock = clock
        self._requests: set[Pending] = set()
        self._items: dict[bytes, Item] = {}
        self._known: OrderedDict[bytes, Vectors] = OrderedDict()
        self._most_known = _MEMORY_BYTES // (4 * dimension)
        self._has_unwanted = False
        self._settled: deque[tuple[float, int]] = deque()

    @property
    def is_empty(self) -> bool:
        return not self._requests

    def admit(self, texts: int) -> Pending:
        """Raises QueueFull."""
        excess = self.accepted + texts - self._most_texts
        if excess > 0:
            raise QueueFull(f"{self.accepted} texts wait already", self._room_after(excess))
        if len(self._requests) >= self._most_requests:
            raise QueueFull(f"{len(self._requests)} requests wait already", self._room_after(texts))
        request = Pending(texts, self._dimension)
        self.accepted += texts
        self._requests.add(request)
        if not texts:
            self.finish(request)
        return request

    def add(self, request: Pending, prepared: Sequence[Prepared]) -> None:
        new = []
        for row, one in enumerate(prepared):
            known = self._known.get(one.key)
            if known is not None:
                self._give(Taker(request, row), known)
                continue
            item = self._items.get(one.key)
            if item is None:
                item = self._items[one.key] = Item(one.key, one.sent, one.tokens, self._clock())
                new.append(item)
            item.takers.append(Taker(request, row))
        self.packs.add(new)

    def first(self, tokens_at_a_time: float) -> list[Item]:
        """See `Packs.first`; what nobody waits for any more is not among them."""
        if self._has_unwanted:
            self._has_unwanted = False
            for item in self.packs.drop_unwanted():
                self._items.pop(item.key, None)
        return self.packs.first(tokens_at_a_time)

    def put_back(self, pack: Sequence[Item]) -> None:
        self._has_unwanted = True
        self.packs.put_back(pack)

    def divide(self, pack: Sequence[Item]) -> None:
        self._has_unwanted = True
        self.packs.divide(pack)

    def settle(self, item: Item, vector: Vectors) -> None:
        """Give a text's vector to all who wait for it."""
        self._items.pop(item.key, None)
        self._known[item.key] = vector
        if len(self._known) > self._most_known:
            self._known.popitem(last=False)
        self._settled.append((self._clock(), len(item.takers)))
        for taker in item.takers:
            self._give(taker, vector)

    def charge(self, item: Item, error: Callable[[int], EmbedstreamError]) -> None:
        """A text never gets its vector: the requests that have it end with an error, made of its number in each."""
        self._items.pop(item.key, None)
        self._has_unwanted = True
        for request, row in item.takers:
            if request.left:
                self.finish(request, error(row))

    def fail(self, error: Callable[[], EmbedstreamError]) -> None:
        """End all requests."""
        self.packs.clear()
        self._items.clear()
        for request in list(self._requests):
            self.finish(request, error())

    def forget(self) -> None:
        """Keep no vectors: they are of another space."""
        self._known.clear()

    def finish(self, request: Pending, error: EmbedstreamError | None = None) -> None:
        self.accepted -= request.left
        request.left = 0
        request.error = error
        self._requests.discard(request)
        request.settled.set_result(None)

    def _give(self, taker: Taker, vector: Vectors) -> None:
        request, row = taker
        if not request.left:
            return
        request.vectors[row] = vector
        if request.left == 1:
            self.finish(request)
        else:
            request.left -= 1
            self.accepted -= 1

    def _room_after(self, texts: int) -> float:
        """In how many seconds, from 1 to 60, so many texts are done at the rate of the last minute."""
        now = self._clock()
        while self._settled and self._settled[0][0] < now - _RATE_SECONDS:
            self._settled.popleft()
        done = sum(each for _, each in self._settled)
        if not done:
            return 1.0
        seconds = texts * (now - self._settled[0][0]) / done
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(seconds)))
