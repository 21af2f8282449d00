import sys
import unicodedata

import pytest

from embedstream.decode.blank import is_blank

# Unicode's DerivedCoreProperties: Default_Ignorable_Code_Point.
IGNORABLE = [
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
]  # fmt: skip
BRAILLE_BLANK = 0x2800
# Controls (Cf) since Unicode 15, of which Python 3.11 does not know all.
HIEROGLYPHS = range(0x13430, 0x13440)


def test_what_cannot_be_seen_is_what_unicode_says():
    ignorable = {point for first, last in IGNORABLE for point in range(first, last + 1)}
    unseen = {
        point
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)) in ("Cc", "Cf", "Zs", "Zl", "Zp")
    }
    found = {point for point in range(sys.maxunicode + 1) if is_blank(chr(point))}
    assert found == unseen | ignorable | {BRAILLE_BLANK, *HIEROGLYPHS}


@pytest.mark.parametrize("text", ["", " \t\n", "\u200b", "\u00ad", "\u200f\u200e", "\ufeff", "\u3164", "\ufe0f \u2060"])
def test_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "\u200ba", "\u0e2a", "\u2764\ufe0f", ".", "\u0301", "\ufffd", " \u200b-"])
def test_not_blank(text):
    assert not is_blank(text)
