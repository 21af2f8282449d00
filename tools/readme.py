"""Keeps the README's Configuration table equal to settings.py: `python tools/readme.py` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from embedstream.settings import OF_NO_VARIABLE, Settings

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- configuration -->\n).*?(<!-- /configuration -->)", re.DOTALL)


def table() -> str:
    rows = [
        f"| `{name.upper()}` | {_default(field)} | {_meaning(field)} |"
        for name, field in sorted(
            Settings.model_fields.items(), key=lambda each: each[0] not in Settings.__annotations__
        )
        if name not in OF_NO_VARIABLE
    ]
    return "\n".join(["| Variable | Default | What it is |", "|---|---|---|", *rows, ""])


def rendered(text: str) -> str:
    return BLOCK.sub(lambda match: match[1] + table() + match[2], text)


def _default(field: Any) -> str:
    return "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"


def _meaning(field: Any) -> str:
    if get_origin(field.annotation) is Literal:
        return f"{field.description} ({', '.join(map(str, get_args(field.annotation)))})"
    return str(field.description)


if __name__ == "__main__":
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")
