"""Keeps what is generated from the pipeline file's models: `python tools/pipeline_file.py` writes the JSON Schema and
the tables of docs/reference/pipeline-file.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedstream.decode.spec import Chunks, Decoding, Formats, ProtobufFile, RegistryAccess, TextSource, TimestampSource
from embedstream.pipelines.model import Case, Expected, Pipeline, PipelineFile
from embedstream.pipelines.schema import schema

if TYPE_CHECKING:
    from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "src" / "embedstream" / "pipelines" / "embedstream.schema.json"
PAGE = ROOT / "docs" / "reference" / "pipeline-file.md"
MODELS = {
    model.__name__: model
    for model in (
        PipelineFile, Pipeline, Formats, ProtobufFile, RegistryAccess, TextSource, TimestampSource, Chunks, Case,
        Expected,
    )
}  # fmt: skip
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
WORDS = {"string": "string", "integer": "whole number", "boolean": "true or false", "null": ""}


def schema_text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def keys() -> set[str]:
    return {field.alias or name for model in MODELS.values() for name, field in model.model_fields.items()}


def rendered(page: str) -> str:
    return BLOCK.sub(lambda found: found[1] + table(MODELS[found[2]]) + found[3], page)


def table(model: type[BaseModel]) -> str:
    found = model.model_json_schema()
    needed = found.get("required", ())
    rows = [
        f"| `{key}` | {_type(facts)} | {'needed' if key in needed else _default(facts)} | {facts['description']} |"
        for key, facts in sorted(found["properties"].items(), key=lambda item: _is_inherited(model, item[0]))
    ]
    return "\n".join(["| Key | Type | Default | What it is |", "|---|---|---|---|", *rows, ""])


def _is_inherited(model: type[BaseModel], key: str) -> bool:
    return model is Pipeline and key in Decoding.model_fields


def _type(facts: dict[str, Any]) -> str:
    if facts.get("title") == "expression":
        return "expression"
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in facts or "const" in facts:
        return ", ".join(f"`{json.dumps(word).strip(chr(34))}`" for word in facts.get("enum", [facts.get("const")]))
    if "anyOf" in facts:
        return " or ".join(dict.fromkeys(filter(None, map(_type, facts["anyOf"]))))
    return _plain_type(facts)


def _plain_type(facts: dict[str, Any]) -> str:
    if facts.get("type") == "array":
        return f"list of {_type(facts['items'])}s"
    if facts.get("type") == "object":
        inner = facts.get("additionalProperties")
        return f"map of {_type(inner)}s" if isinstance(inner, dict) else "map"
    return WORDS[facts["type"]] if "type" in facts else "anything"


def _default(facts: dict[str, Any]) -> str:
    default = facts.get("default")
    if default in (None, [], {}):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
