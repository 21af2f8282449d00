"""How much of other people's words goes into one answer."""

from __future__ import annotations

from typing import Any

from embedstream.display import as_json

CHARACTERS = 24_000
NOTE = (
    f"cut: an answer has at most {CHARACTERS:,} characters of texts and metadata; "
    "`characters` says how long each text is, and get_message reads one on from `start`"
)
HIDDEN = "texts are hidden by CONSOLE_HIDE_TEXTS; `characters` says how long they are"


class Budget:
    """Shares what an answer may have between its parts; what one leaves over, those behind it get."""

    def __init__(self, parts: int, characters: int = CHARACTERS) -> None:
        self._parts = parts
        self._left = characters
        self.is_cut = False

    def take(self, text: str, metadata: dict[str, Any] | None) -> tuple[str, dict[str, Any] | None]:
        """The next part: its metadata is whole, or left out where it takes more than half; the text has the rest."""
        share = self._left // max(1, self._parts)
        size = len(as_json(metadata, indent=None)) if metadata else 0
        if size > share // 2:
            metadata, size, self.is_cut = None, 0, True
        shown = text[: share - size]
        self.is_cut = self.is_cut or len(shown) < len(text)
        self._parts -= 1
        self._left -= size + len(shown)
        return shown, metadata


def cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
