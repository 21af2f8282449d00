"""What may stand in a pipeline file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from embedstream.decode.spec import Decoding, Strict
from embedstream.decode.timestamps import parse_timestamp
from embedstream.errors import Rejected

_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
_TOPIC = r"[A-Za-z0-9._-]{1,249}"
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def _name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueError(
            "is no pipeline's name: lower-case letters, digits, _ and -, at most 63, a letter or digit first"
        )
    return text


def is_topic(text: str) -> bool:
    return bool(re.fullmatch(_TOPIC, text)) and text not in (".", "..")


def _topic(text: str) -> str:
    if not is_topic(text):
        raise ValueError("is no topic's name: letters, digits, dots, _ and -, at most 249")
    return text


def _dead_letters(text: str) -> str:
    unknown = [name for name in _PLACEHOLDER.findall(text) if name not in ("topic", "name")]
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} means nothing here: there are {{topic}} and {{name}}")
    return text


def _moment(text: str) -> str:
    try:
        parse_timestamp(text)
    except Rejected as exc:
        raise ValueError(exc.reason) from None
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Name: TypeAlias = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{_NAME}$"})]
Topic: TypeAlias = Annotated[str, AfterValidator(_topic), Field(json_schema_extra={"pattern": f"^{_TOPIC}$"})]
Filled: TypeAlias = Annotated[str, AfterValidator(_filled)]
Moment: TypeAlias = Annotated[str, AfterValidator(_moment)]


class Expected(Strict):
    """What a record is to become: a message with these fields, a delete, or nothing; what is left out may be any."""

    id: str | None = Field(None, description="the message's id")
    text: str | None = Field(None, description="its text; null where the source left out what did not change")
    metadata: dict[str, Any] | None = Field(None, description="all of its metadata")
    timestamp: Moment | None = Field(None, description="its time, in ISO 8601 with a zone")
    source: str | None = Field(None, description="its source")
    delete: str | None = Field(None, description="the id that is deleted")
    filtered: Literal[True] | None = Field(None, description="true where `where` leaves the record out")
    rejected: str | None = Field(None, description="code of the dead letter that it becomes, such as text_missing")

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        others = self.model_fields_set & {"delete", "filtered", "rejected"}
        if others and len(self.model_fields_set) > 1:
            raise ValueError("expects several things of one record: a message's fields, delete, filtered or rejected")
        return self


class Case(Strict):
    """A test: a record, and what is to become of it."""

    value: Any = Field(None, description="the value as its format reads it, as YAML (left out: a tombstone's null)")
    key: Any = Field(None, description="the key as its format reads it, as YAML")
    headers: dict[str, str] = Field({}, description="the record's headers")
    topic: Topic | None = Field(None, description="the record's topic (not set: the pipeline's)")
    partition: int = Field(0, ge=0, description="its partition")
    offset: int = Field(0, ge=0, description="its offset")
    timestamp: int = Field(0, description="its time, in milliseconds since the epoch")
    expect: Expected | Annotated[tuple[Expected, ...], Field(min_length=1, strict=False)] = Field(
        description="what it becomes; a list where it becomes several messages"
    )


class Pipeline(Decoding):
    """From one topic to one table."""

    topic: Topic | Annotated[tuple[Topic, ...], Field(min_length=1, strict=False)] = Field(
        description="topic that the records are read from"
    )
    table: Filled = Field(description="table, or schema.table, of the embeddings; no two pipelines share one")
    group: Filled | None = Field(
        None, description="consumer group whose offsets the job commits (not set: embedstream-NAME)"
    )
    job: Filled | None = Field(None, description="name of the job (not set: embedstream-NAME)")
    dead_letters: Annotated[str, AfterValidator(_dead_letters)] = Field(
        "{topic}-dead-letters", description="topic for rejected records; {topic} and {name} are filled in"
    )
    parallelism: int | None = Field(
        None, ge=1, le=1024, description="parallel slots of the job (not set: the default of FLINK_PARALLELISM)"
    )
    tests: Annotated[tuple[Case, ...], Field(strict=False)] = Field(
        (), description="records, and what is to become of them: `embedstream pipelines check` runs them"
    )

    @property
    def decoding(self) -> Decoding:
        """Its part that says what records become; formats are written out."""
        facts = {name: getattr(self, name) for name in Decoding.model_fields}
        return Decoding.model_construct(**facts | {"format": self.formats})

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.topic,) if isinstance(self.topic, str) else self.topic

    def job_name(self, name: str) -> str:
        return self.job or f"embedstream-{name}"

    def group_id(self, name: str) -> str:
        return self.group or f"embedstream-{name}"

    def dead_letter_topic(self, name: str) -> str:
        """Of several topics, the first gives it its name."""
        return self.dead_letters.replace("{topic}", self.topics[0]).replace("{name}", name)


class PipelineFile(Strict):
    """The file as a whole."""

    version: Literal[1] = Field(description="version of this file's form")
    defaults: dict[str, Any] = Field({}, description="what every pipeline has unless it says otherwise")
    pipelines: dict[Name, Pipeline] = Field(min_length=1, description="the pipelines by name")
