"""What a pipeline makes of its topic's records, as its file says it.

Strings that are expressions are JMESPath (https://jmespath.org/specification.html) over the names `value`, `key`,
`headers`, `record` (topic, partition, offset, timestamp), `event` (what the envelope says of the change) and, inside of
`each`, `item`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import SplitResult, urlsplit

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


def _has_port(url: SplitResult) -> bool:
    """Or none, which is one as well."""
    try:
        return url.port != 0
    except ValueError:
        return False


class RegistryAccess(Strict):
    """A schema registry with Confluent's API; secrets stand in files."""

    url: str
    user: str | None = None
    password_file: str | None = None
    token_file: str | None = None
    ca_file: str | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname or not _has_port(url):
            raise ValueError("url is no http:// or https:// URL with a host")
        if url.query or url.fragment:
            raise ValueError("url ends in a query or a fragment: leave it out")
        if "@" in url.netloc:
            raise ValueError("url holds a user or a password: write user and password_file instead")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together: one of them is missing")
        if self.user is not None and self.token_file is not None:
            raise ValueError("user and token_file are two ways to log in: leave one of them out")
        return self


class TextSource(Strict):
    """Texts that are not plain: `html` is taken for what a reader would see of it."""

    from_: Expressions = Field(alias="from")
    as_: Literal["plain", "html"] = Field("plain", alias="as")


class TimestampSource(Strict):
    """A moment; `unit` is that of a number, `zone` (IANA) that of a text without one."""

    from_: Expression = Field(alias="from")
    unit: Literal["s", "ms", "us", "ns", "iso", "days"] | None = None
    zone: str | None = None


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
