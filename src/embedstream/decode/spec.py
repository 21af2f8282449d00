"""What a pipeline makes of its topic's records, as its file says it.

Strings that are expressions are JMESPath (https://jmespath.org/specification.html) over the names `value`, `key`,
`headers`, `record` (topic, partition, offset, timestamp), `event` (what the envelope says of the change) and, inside of
`each`, `item`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Takes what is written as it is: YAML's `no` is no string, `1e3` no number of a partition."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, populate_by_name=True
    )


def _address(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or not _has_port(url):
        raise ValueError("is no http:// or https:// URL with a host")
    if url.query or url.fragment:
        raise ValueError("ends in a query or a fragment: leave it out")
    if "@" in url.netloc:
        raise ValueError("holds a user or a password: write user and password_file instead")
    return text.rstrip("/")


def _has_port(url: SplitResult) -> bool:
    """Or none, which is one as well."""
    try:
        return url.port != 0
    except ValueError:
        return False


Url: TypeAlias = Annotated[str, AfterValidator(_address)]
Expression: TypeAlias = Annotated[str, Field(min_length=1, title="expression")]
Expressions: TypeAlias = Expression | Annotated[tuple[Expression, ...], Field(min_length=1, strict=False)]


class ProtobufFile(Strict):
    """Unframed Protobuf, by a `.proto` file."""

    protobuf: str = Field(description="path of the .proto file, relative to the pipeline file")
    message: str = Field(description="full name of the message in it, such as shop.v1.Ticket")


Format: TypeAlias = Literal["json", "text", "registry", "int32", "int64", "uuid"] | ProtobufFile


class Formats(Strict):
    """How key and value are written; `registry` is Confluent's framing of Avro, Protobuf and JSON Schema."""

    key: Format = Field("text", description="how the record's key is written")
    value: Format = Field("json", description="how the record's value is written")


class RegistryAccess(Strict):
    """A schema registry with Confluent's API; secrets stand in files."""

    url: Url = Field(description="address of the registry, with the path of Confluent's API where it has one")
    user: str | None = Field(None, description="user of HTTP basic authentication")
    password_file: str | None = Field(None, description="file with that user's password")
    token_file: str | None = Field(None, description="file with a bearer token")
    ca_file: str | None = Field(
        None, description="PEM file of the authorities that sign the registry's certificate (not set: the usual)"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together: one of them is missing")
        if self.user is not None and self.token_file is not None:
            raise ValueError("user and token_file are two ways to log in: leave one of them out")
        return self


class TextSource(Strict):
    """Texts that are not plain: `html` is taken for what a reader would see of it."""

    from_: Expressions = Field(alias="from", description="the text; parts of a list are joined by a blank line")
    as_: Literal["plain", "html"] = Field(
        "plain", alias="as", description="what the text is; of `html` a reader's view is taken"
    )


class TimestampSource(Strict):
    """A moment; `unit` is that of a number, `zone` (IANA) that of a text without one."""

    from_: Expression = Field(alias="from", description="the moment")
    unit: Literal["s", "ms", "us", "ns", "iso", "days"] | None = Field(
        None, description="what a number counts since the epoch (not set: by its size)"
    )
    zone: str | None = Field(None, description="IANA time zone of texts without one, such as Europe/Berlin")


LEAST_TOKENS_WITH_PREFIX = 32


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
        if self.tokens is not None and self.prefix and self.tokens < LEAST_TOKENS_WITH_PREFIX:
            raise ValueError(
                f"tokens is less than {LEAST_TOKENS_WITH_PREFIX}: beside a prefix there is no room for text"
            )
        return self


EnvelopeName: TypeAlias = Literal["none", "debezium", "unwrap", "maxwell", "canal", "cloudevents", "connect"]


class Decoding(Strict):
    """From a record to messages: every part that is left out is as the envelope has it, or else the default shape."""

    format: Formats | Format = Field(Formats(), description="how the value is written, or key and value each")
    registry: RegistryAccess | Url | None = Field(
        None, description="schema registry with Confluent's API, for the format `registry`"
    )
    envelope: EnvelopeName = Field("none", description="what the records are wrapped in")
    placeholder: str = Field(
        "__debezium_unavailable_value", description="what the envelope writes for a value that did not change"
    )
    each: Expression | None = Field(None, description="list whose items are a message each")
    where: Expression | None = Field(None, description="condition; what does not meet it is counted as filtered")
    delete: Expression | None = Field(None, description="condition under which the record deletes its id")
    id: Expressions | None = Field(None, description="parts of a list are joined by a colon, as they are")
    text: Expressions | TextSource | None = Field(None, description="parts of a list are joined by a blank line")
    timestamp: Expression | TimestampSource | None = Field(None, description="when it happened; shown, and searched by")
    version: Expression | None = Field(
        None, description="`time`, `record` (topic, partition, offset), or an expression that gives a whole number"
    )
    source: Expression | None = Field(None, description="where the text comes from")
    metadata: dict[str, Expression] | Literal["*"] | None = Field(
        None, description="a map of names to expressions, or `*` for the whole value"
    )
    chunks: Chunks | None = Field(None, description="how long texts are divided (not set: a text is one row)")

    @property
    def formats(self) -> Formats:
        return self.format if isinstance(self.format, Formats) else Formats(value=self.format)

    @property
    def is_default(self) -> bool:
        """Whether records are taken as without a file."""
        return self.model_copy(update={"format": self.formats}) == Decoding()

    @property
    def version_by(self) -> Literal["time", "record"]:
        """The order of versions where no expression gives it: a change log's is that of its records."""
        if self.version in ("time", "record"):
            return "record" if self.version == "record" else "time"
        return "record" if self.version is None and self.envelope in ("debezium", "maxwell", "canal") else "time"

    def to_json(self) -> str:
        """What is not as by default, for another process to read."""
        return _canonical(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))

    @property
    def mapping_hash(self) -> str:
        """12 hexadecimal digits that differ where records would become something else.

        A registry may have another address, and a file of Protobuf lie elsewhere.
        """
        shown = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"registry"})
        shown |= {"format": [_named(each) for each in (self.formats.key, self.formats.value)]}
        return hashlib.sha256(_canonical(shown).encode()).hexdigest()[:12]


def _named(written: Format) -> object:
    return [PurePath(written.protobuf).name, written.message] if isinstance(written, ProtobufFile) else written


def _canonical(facts: dict[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))
