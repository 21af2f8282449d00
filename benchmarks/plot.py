"""A bar chart as SVG text: one figure, a bar for each contender, a line for the range of its rounds."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH, LABELS, NUMBERS, ROW, TOP = 760, 240, 80, 28, 44
BAR, INK, PAPER = "#4a7fb5", "#1b1f24", "#ffffff"


def bars(title: str, rows: Mapping[str, tuple[float, float, float]]) -> str:
    """`rows` gives median, least and greatest value by label."""
    largest = max((high for _, _, high in rows.values()), default=0) or 1
    scale = (WIDTH - LABELS - NUMBERS) / largest
    drawn = [_bar(TOP + place * ROW, label, values, scale) for place, (label, values) in enumerate(rows.items())]
    height = TOP + ROW * len(rows) + 8
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" fill="{INK}">',
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
            *drawn,
            "</svg>\n",
        ]
    )


def _bar(top: int, label: str, values: tuple[float, float, float], scale: float) -> str:
    median, low, high = values
    middle, end = top + 10, LABELS + high * scale
    text = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"  # noqa: PLR2004
    return (
        f'<text x="{LABELS - 8}" y="{top + 15}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{LABELS}" y="{top}" width="{max(1.0, median * scale):.1f}" height="20" fill="{BAR}"/>'
        f'<path d="M{LABELS + low * scale:.1f} {middle}H{end:.1f}" stroke="{INK}" stroke-width="2"/>'
        f'<text x="{max(end, LABELS + median * scale) + 8:.1f}" y="{top + 15}">{text}</text>'
    )
