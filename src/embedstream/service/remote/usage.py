"""What was used of the remote server: since the start, and on this day of UTC."""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Usage:
    """Not safe for threads: its owner has a lock. `requests` are counted by how they ended.

    With a file the day's numbers outlive the process; one that cannot be read or written costs a warning.
    """

    def __init__(self, price: float | None, file: Path | None = None, now: Callable[[], datetime] = _now) -> None:
        self._price = price
        self._file = file
        self._now = now
        self.tokens = 0
        self.texts = 0
        self.reckoned = 0
        self.waited = 0.0
        self.requests: Counter[str] = Counter()
        self._day, self._today = self._read()

    def count(self, outcome: str, tokens: int = 0, texts: int = 0, reckoned: int = 0) -> None:
        """`reckoned` are the same tokens as they were estimated."""
        self.requests[outcome] += 1
        self.tokens += tokens
        self.texts += texts
        self.reckoned += reckoned
        today = self._of_today()
        today.update(tokens=tokens, texts=texts, requests=1)
        if self._file and tokens:
            self._write(self._file)

    @property
    def tokens_today(self) -> int:
        return self._of_today()["tokens"]

    @property
    def tokens_a_text(self) -> float | None:
        """The mean since the start."""
        return self.reckoned / self.texts if self.texts else None

    def cost(self, tokens: int) -> float | None:
        return None if self._price is None else tokens * self._price / 1_000_000

    def today(self) -> dict[str, Any]:
        found = self._of_today()
        return {name: found[name] for name in ("requests", "texts", "tokens")} | {"cost": self.cost(found["tokens"])}

    def next_day(self) -> datetime:
        return datetime.combine(self._now().date() + timedelta(days=1), time(), UTC)

    def seconds_until_next_day(self) -> float:
        return (self.next_day() - self._now()).total_seconds()

    def _of_today(self) -> Counter[str]:
        day = self._now().date()
        if day != self._day:
            self._day, self._today = day, Counter()
        return self._today

    def _read(self) -> tuple[date, Counter[str]]:
        day = self._now().date()
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8")) if self._file and self._file.exists() else {}
            same = kept.get("day") == day.isoformat()
            return day, Counter({name: int(kept[name]) for name in ("requests", "texts", "tokens")} if same else {})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            logger.warning("REMOTE_USAGE_FILE=%s cannot be read, the day begins at 0: %s", self._file, exc)
            return day, Counter()

    def _write(self, file: Path) -> None:
        part = file.with_name(f"{file.name}.part")
        try:
            part.write_text(json.dumps({"day": self._day.isoformat(), **self._today}), encoding="utf-8")
            part.replace(file)
        except OSError as exc:
            logger.warning("REMOTE_USAGE_FILE=%s cannot be written: %s", file, exc)
