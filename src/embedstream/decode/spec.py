"""What a pipeline makes of its topic's records, as its file says it.

Strings that are expressions are JMESPath (https://jmespath.org/specification.html) over the names `value`, `key`,
`headers`, `record` (topic, partition, offset, timestamp), `event` (what the envelope says of the change) and, inside of
`each`, `item`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Takes what is written as it is: YAML's `no` is no string, `1e3` no number of a partition."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, populate_by_name=True
    )


Expression: TypeAlias = Annotated[str, Field(min_length=1)]
Expressions: TypeAlias = Expression | Annotated[tuple[Expression, ...], Field(min_length=1, strict=False)]


class ProtobufFile(Strict):
    """Unframed Protobuf, by a `.proto` file."""

    protobuf: str = Field(description="path of the .proto file, relative to the pipeline file")
    message: str = Field(description="full name of the message in it, such as shop.v1.Ticket")


Format: TypeAlias = Literal["json", "text", "registry", "int32", "int64", "uuid"] | ProtobufFile


class Formats(Strict):
    """How key and value are written; `registry` is Confluent's framing of Avro, Protobuf and JSON Schema."""

    key: Format = "text"
    value: Format = "json"


class RegistryAccess(Strict):
    """A schema registry with Confluent's API; secrets stand in files."""

    url: str
    user: str | None = None
    password_file: str | None = None
    token_file: str | None = None
    ca_file: str | None = None


class TextSource(Strict):
    """Texts that are not plain: `html` is taken for what a reader would see of it."""

    from_: Expressions = Field(alias="from")
    as_: Literal["plain", "html"] = Field("plain", alias="as")


class TimestampSource(Strict):
    """A moment; `unit` is that of a number, `zone` (IANA) that of a text without one."""

    from_: Expression = Field(alias="from")
    unit: Literal["s", "ms", "us", "ns", "iso", "days"] | None = None
    zone: str | None = None


class Chunks(Strict):
    """How a long text is cut; every part is embedded for itself. A property of the table, like the model."""

    tokens: int | None = Field(
        None, ge=16, description="longest chunk; not set: as many as the model reads beside its special tokens"
    )
    overlap: int = Field(0, ge=0, description="tokens at the end of a chunk that the next one begins with, at most")
    prefix: Expression | None = Field(None, description="what stands before each chunk when it is embedded: a title")

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if self.tokens is not None and 2 * self.overlap > self.tokens:
            raise ValueError("overlap is more than half of tokens: chunks would hardly move on")
        return self


EnvelopeName: TypeAlias = Literal["none", "debezium", "unwrap", "maxwell", "canal", "cloudevents", "connect"]


class Decoding(Strict):
    """From a record to messages: every part that is left out is as the envelope has it, or else the default shape."""

    format: Formats | Format = Formats()
    registry: RegistryAccess | str | None = None
    envelope: EnvelopeName = "none"
    placeholder: str = Field(
        "__debezium_unavailable_value", description="what the envelope writes for a value that did not change"
    )
    each: Expression | None = Field(None, description="list whose items are a message each")
    where: Expression | None = Field(None, description="condition; what does not meet it is counted as filtered")
    delete: Expression | None = Field(None, description="condition under which the record deletes its id")
    id: Expressions | None = Field(None, description="parts of a list are joined by a colon")
    text: Expressions | TextSource | None = Field(None, description="parts of a list are joined by a blank line")
    timestamp: Expression | TimestampSource | None = None
    version: Expression | None = Field(
        None, description="`time`, `record` (topic, partition, offset), or an expression that gives a whole number"
    )
    source: Expression | None = None
    metadata: Annotated[dict[str, Expression], Field()] | Literal["*"] | None = Field(
        None, description="a map of names to expressions, or `*` for the whole value"
    )

    @property
    def formats(self) -> Formats:
        return self.format if isinstance(self.format, Formats) else Formats(value=self.format)

    @property
    def is_default(self) -> bool:
        """Whether records are taken as without a file."""
        return self == Decoding()
