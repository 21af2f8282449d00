"""What a reader sees of HTML, as text.

The parser's time grows with the square of the depth and of the attributes of a tag (a megabyte of `<div>` takes it six
minutes), so that it is given what matters for the text alone: tags of blocks, without attributes, to a bounded depth.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

from selectolax.lexbor import LexborHTMLParser

from embedstream.decode.fields import storable

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "dir", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hgroup", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "optgroup", "option", "p", "pre", "search",
    "section", "select", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
}  # fmt: skip
_UNSEEN = {"template", "noscript", "object", "datalist"}
_CELLS = {"td", "th"}
_EMPTY = {"br", "hr"}
# What the parser ends by itself where the next of them begins, so that any number of them nests no deeper.
_SELF_CLOSING = {"p", "li", "dd", "dt", "option", "optgroup", "td", "th", "tr", "tbody", "thead", "tfoot"}
_KEPT = _BLOCKS | _UNSEEN | _CELLS | _EMPTY
_DEEPEST = 256

_ATTRIBUTES = r"""((?:[\s/]++|[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|(?!["'])[^\s>]*+))?+)*+)"""
_TOKEN = re.compile(
    rf"""
    <!--(?:>|->|.*?(?:--!?>|\Z))
    | <(script|style|title|iframe|noembed|noframes|xmp|textarea)(?=[\s/>]){_ATTRIBUTES}>?+
        (.*?)(?:</\1(?=[\s/>])[^>]*+>?+|\Z)
    | <(/?)([a-z][^\s/>]*+){_ATTRIBUTES}(?:>|\Z)
    | <[!?/][^>]*+>?+
    | <
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_HIDDEN = re.compile(
    r"""(?:^|[\s"'/])hidden(?=[\s=/]|$)|\bstyle\s{0,9}=\s{0,9}["']?[^"']{0,199}?display\s{0,9}:\s{0,9}none""",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[ \t\n\r\f]+")
_UNSTORABLE = "\ud800"
_UNPARSABLE = re.compile("[\0\ud800-\udfff]")
_PRIVATE_USE = range(0xE000, 0xF900)


def visible_text(html: str) -> str:
    """Its words in their order: a line for each block, a space between the cells of a table, no markup.

    What PostgreSQL cannot store is half of a surrogate pair there: no white space, and replaced when it is stored.
    """
    marked, mark = _marked(html)
    parser = LexborHTMLParser(_TOKEN.sub(_Tamer(), marked))
    text = _Text()
    if parser.root:
        _walk(parser.root, text)
    return text.joined().replace(mark, _UNSTORABLE) if mark else text.joined()


def _marked(html: str) -> tuple[str, str]:
    """With a character in place of what cannot be parsed, and that character: one that else stands nowhere in it."""
    if storable(html) == html:
        return html, ""
    used = {*html, *unescape(html)}
    mark = next((chr(code) for code in _PRIVATE_USE if chr(code) not in used), "\N{REPLACEMENT CHARACTER}")
    return _UNPARSABLE.sub(mark, html), mark


class _Tamer:
    """Writes each tag anew, or leaves it out."""

    def __init__(self) -> None:
        self._depth = 0
        self._hidden_names: set[str] = set()

    def __call__(self, token: re.Match[str]) -> str:
        raw, _, content, slash, name, attributes = token.groups()
        if name:
            name = name.lower()
            return self._close(name) if slash else self._open(name, attributes)
        if raw:
            seen = raw.lower() in {"xmp", "textarea"}
            return f"<pre>\n{_escaped(content)}</pre>" if seen else ""
        return "&lt;" if token[0] == "<" else ""

    def _open(self, name: str, attributes: str) -> str:
        hidden = len(attributes) > _SHORTEST_HIDING and _HIDDEN.search(attributes) is not None
        if hidden:
            self._hidden_names.add(name)
        elif name in _EMPTY:
            return f"<{name}>"
        if name not in _KEPT and name not in self._hidden_names:
            return ""
        if name not in _SELF_CLOSING:
            if self._depth >= _DEEPEST:
                return "<br>" if name in _BLOCKS else ""
            self._depth += 1
        return f"<{_spelt(name)} hidden>" if hidden else f"<{_spelt(name)}>"

    def _close(self, name: str) -> str:
        if name in _EMPTY or (name not in _KEPT and name not in self._hidden_names):
            return ""
        if name not in _SELF_CLOSING:
            self._depth = max(0, self._depth - 1)
        return f"</{_spelt(name)}>"


_SHORTEST_HIDING = len("hidden")
_PLAIN_NAME = re.compile(r"[a-z0-9]+", re.ASCII)


def _spelt(name: str) -> str:
    """An element that is hidden, but no block, goes by a name that the parser has no rules for."""
    return name if name in _KEPT else f"x-{name if _PLAIN_NAME.fullmatch(name) else 'other'}"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def _walk(root: LexborNode, text: _Text) -> None:
    """Each node of the tree, down, right and up again, without recursion."""
    above: list[tuple[LexborNode, str]] = []
    node: LexborNode | None = root
    while node or above:
        if node is None:
            node, tag = above.pop()
            text.leave(tag)
        else:
            tag = node.tag or ""
            if tag == "-text":
                text.add(node.text_content or "")
            elif tag not in _UNSEEN and "hidden" not in node.attributes:
                text.enter(tag)
                above.append((node, tag))
                node = node.child
                continue
        node = node.next if above else None


class _Text:
    """Lines of text as they grow; white space is one space, but for preformatted text."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._preformatted = 0

    def joined(self) -> str:
        self._end_line()
        return "\n".join(self._lines).strip("\n")

    def enter(self, tag: str) -> None:
        if tag in _CELLS:
            self._line.append(" ")
        elif tag == "br" or tag in _BLOCKS:
            self._end_line()
        if tag == "pre":
            self._preformatted += 1

    def leave(self, tag: str) -> None:
        if tag in _CELLS:
            self._line.append(" ")
        elif tag in _BLOCKS:
            self._end_line()
        if tag == "pre":
            self._preformatted -= 1

    def add(self, text: str) -> None:
        if not self._preformatted:
            self._line.append(text)
            return
        first, *rest = text.split("\n")
        self._line.append(first)
        for line in rest:
            self._lines.append("".join(self._line).rstrip())
            self._line = [line]

    def _end_line(self) -> None:
        line = "".join(self._line)
        self._line.clear()
        line = line.rstrip() if self._preformatted else _SPACES.sub(" ", line).strip(" ")
        if line:
            self._lines.append(line)
