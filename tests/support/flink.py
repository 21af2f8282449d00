"""What Flink 2.3.0 answered; tests/data/record_flink.py says how it was recorded."""

import json
from pathlib import Path

RECORDED = Path(__file__).parents[1] / "data" / "flink"


def recorded(name):
    """An answer of the REST API, or what `flink run` printed."""
    text = (RECORDED / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text
