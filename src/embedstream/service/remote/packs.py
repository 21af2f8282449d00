"""Which texts share a request, and what is learned of a request that was refused."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.service.batching import Pending


class Taker(NamedTuple):
    """Who waits for a text's vector, and as which of its rows."""

    request: Pending
    row: int


class Item:
    """One text, for however many takers; `most` is how many may be in its next request."""

    def __init__(self, key: bytes, sent: str, tokens: int, since: float) -> None:
        self.key = key
        self.sent = sent
        self.tokens = tokens
        self.since = since
        self.takers: list[Taker] = []
        self.most = 1 << 30
        self.strikes = 0
        self.divided: _Divided | None = None

    @property
    def is_wanted(self) -> bool:
        return any(taker.request.left for taker in self.takers)


class _Divided:
    """A request that was refused, and is tried in halves; `left` of its texts have no vector yet."""

    def __init__(self, texts: int, tokens: int) -> None:
        self.texts = texts
        self.tokens = tokens
        self.left = texts


class Packs:
    """The texts that wait, in the order in which they came. Not safe for threads: its owner has a lock."""

    def __init__(self, max_texts: int, max_tokens: int) -> None:
        self.max_texts = max_texts
        self.max_tokens = max_tokens
        self._waiting: deque[Item] = deque()
        self._largest = (0, 0)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, items: Sequence[Item]) -> None:
        self._waiting.extend(items)

    def put_back(self, items: Sequence[Item]) -> None:
        self._waiting.extendleft(reversed(items))

    def clear(self) -> None:
        self._waiting.clear()

    def drop_unwanted(self) -> list[Item]:
        """Those for which nobody waits any more."""
        dropped = [item for item in self._waiting if not item.is_wanted]
        if dropped:
            self._waiting = deque(item for item in self._waiting if item.is_wanted)
        return dropped

    def first(self, tokens_at_a_time: float) -> list[Item]:
        """The next request's, which stay where they are."""
        pack: list[Item] = []
        tokens, most = 0, self.max_texts
        limit = min(self.max_tokens, tokens_at_a_time)
        for item in self._waiting:
            most = min(most, item.most)
            tokens += item.tokens
            if pack and (len(pack) >= most or tokens > limit):
                break
            pack.append(item)
        return pack

    def take(self, pack: Sequence[Item]) -> None:
        for _ in pack:
            self._waiting.popleft()

    def divide(self, pack: Sequence[Item]) -> None:
        """Have a request that was refused, or failed, tried in halves."""
        divided = _Divided(len(pack), sum(item.tokens for item in pack))
        for item in pack:
            item.most = max(1, len(pack) // 2)
            item.divided = divided
        self.put_back(pack)

    def passed(self, pack: Sequence[Item]) -> bool:
        """These have their vectors. Tells whether a limit of the server was learned by it: where both halves of a
        request pass, it was too large as such.
        """
        texts, tokens = len(pack), sum(item.tokens for item in pack)
        self._largest = (max(self._largest[0], texts), max(self._largest[1], tokens))
        whole = set()
        for item in pack:
            if item.divided:
                item.divided.left -= 1
                if not item.divided.left:
                    whole.add(item.divided)
        return bool([each for each in whole if self._learn(each)])

    def _learn(self, refused: _Divided) -> bool:
        learned = False
        if self._largest[0] < refused.texts <= self.max_texts:
            self.max_texts, learned = refused.texts // 2, True
        if self._largest[1] < refused.tokens <= self.max_tokens:
            self.max_tokens, learned = refused.tokens // 2, True
        return learned
