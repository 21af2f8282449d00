"""Records of envelopes, by name, from tests/data/envelopes."""

import json
from pathlib import Path

from embedstream.decode.decoder import build
from embedstream.decode.formats import parse_json
from embedstream.decode.message import Record, Rules
from embedstream.decode.spec import Decoding
from embedstream.errors import Rejected

NOW_MS = 1_780_000_000_000
_FILES = (Path(__file__).parents[1] / "data" / "envelopes").glob("*.json")
RECORDS = {name: record for file in sorted(_FILES) for name, record in json.loads(file.read_text())["records"].items()}
RULES = Rules(None, 100_000)


def record(value, key=None, headers=None, *, timestamp=NOW_MS, offset=7):
    """Of bytes as they are, and of anything else as JSON; a key that is text is that text."""
    raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    if isinstance(key, str):
        key = key.encode()
    raw_key = key if isinstance(key, bytes | None) else json.dumps(key).encode()
    encoded = {name: None if said is None else said.encode() for name, said in (headers or {}).items()}
    return Record(raw_key, raw, "t", 2, offset, timestamp, encoded)


def recorded(name, **options):
    found = RECORDS[name]
    return record(found["value"], found["key"], found.get("headers"), **options)


def read_json(data):
    return parse_json(data)[0]


def decoder(rules=RULES, **decoding):
    """With the keys and values that `format` names, of json and text alone."""
    readers = {"json": read_json, "text": bytes.decode}
    spec = Decoding(**decoding)
    return build(spec, rules, readers[spec.formats.key], readers[spec.formats.value])


def attempt(decode, given):
    """What the record becomes, or the refusal."""
    try:
        return decode(given)
    except Rejected as exc:
        return exc
