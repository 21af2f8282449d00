"""The functions of expressions: those of JMESPath, and ours."""

from __future__ import annotations

from typing import Any

from jmespath import functions
from jmespath.exceptions import JMESPathError

from embedstream.decode.formats import parse_json
from embedstream.decode.html import visible_text
from embedstream.errors import Rejected


class Functions(functions.Functions):
    """`from_json(text)` reads JSON out of a string, `from_html(text)` what a reader sees of HTML; null stays null."""

    @functions.signature({"types": ["string", "null"]})
    def _func_from_json(self, text: str | None) -> Any:  # noqa: ANN401 - any JSON
        if text is None:
            return None
        try:
            return parse_json(text.encode())[0]
        except (Rejected, UnicodeEncodeError):
            raise JMESPathError("from_json() was given a string that is not JSON") from None

    @functions.signature({"types": ["string", "null"]})
    def _func_from_html(self, text: str | None) -> str | None:
        return None if text is None else visible_text(text)
