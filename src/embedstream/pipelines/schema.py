"""The JSON Schema of the pipeline file, for editors."""

from __future__ import annotations

from typing import Any

from embedstream.pipelines.model import Pipeline, PipelineFile

_ID = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Of a pipeline no key is asked for: the defaults may have it."""
    found = PipelineFile.model_json_schema()
    pipeline = found["$defs"][Pipeline.__name__]
    del pipeline["required"]
    shared = {key: value for key, value in found["properties"]["defaults"].items() if key in ("title", "description")}
    found["properties"]["defaults"] = {**shared, "$ref": f"#/$defs/{Pipeline.__name__}"}
    return {"$schema": _ID, **found, "title": "Pipelines of embedstream"}
