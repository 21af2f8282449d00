"""Vectors as pgvector has them: the type of the view's column, and what the vector index holds of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from psycopg.sql import SQL, Identifier
from psycopg.sql import Literal as Constant

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

IndexType: TypeAlias = Literal["vector", "halfvec", "bit"]

OPERATOR_CLASSES: dict[str, IndexType] = {
    "vector_cosine_ops": "vector", "halfvec_cosine_ops": "halfvec", "bit_hamming_ops": "bit"
}  # fmt: skip
# The largest dimensions that pgvector's HNSW takes, and the type that it takes them in.
_TYPES: dict[int, Literal["vector", "halfvec"]] = {2000: "vector", 4000: "halfvec"}


def vector_type(dimension: int, schema: str | None = None) -> tuple[Literal["vector", "halfvec"], Composed]:
    """The type of the view's column: its name, and with schema and dimension, as it stands in SQL.

    Raises ConfigError for more dimensions than pgvector can index.
    """
    for largest, name in _TYPES.items():
        if dimension <= largest:
            return name, _sized(name, dimension, schema)
    raise ConfigError(f"{dimension} are more than the {max(_TYPES)} dimensions that pgvector can index")


def index_type(wanted: IndexType, dimension: int) -> IndexType:
    """What is built where INDEX_TYPE is `wanted`: pgvector indexes more than 2,000 dimensions in halves at most."""
    return vector_type(dimension)[0] if wanted == "vector" else wanted


def indexed(type_: IndexType, dimension: int, of: Composable, schema: str | None = None) -> Composed:
    """What an index of this type holds of `of`, a vector as the table has it, or the view.

    What is made of the view's column is made of the view's type first, so that queries of the view can use it.
    """
    natural, vector = vector_type(dimension, schema)
    whole = SQL("{}::{}").format(of, vector)
    if type_ == natural:
        return whole
    if type_ == "bit":
        signs = _in(schema, "binary_quantize")
        return SQL("{}({})::bit({})").format(signs, whole, Constant(dimension))
    return SQL("{}::{}").format(whole, _sized(type_, dimension, schema))


def nearness(type_: IndexType, dimension: int, asked: Composable) -> Composed:
    """What rows of the view are sorted by, so that the index of this type is used; `asked` is a vector as `real[]`.

    Of signs it is how many differ.
    """
    distance = SQL("<~>" if type_ == "bit" else "<=>")
    held, wanted = (indexed(type_, dimension, of) for of in (SQL("embedding"), asked))
    return SQL("{} {} {}").format(held, distance, wanted)


def operator_class(type_: IndexType, schema: str | None = None) -> tuple[str, Identifier]:
    """Its name, and with its schema."""
    (name,) = (name for name, each in OPERATOR_CLASSES.items() if each == type_)
    return name, _in(schema, name)


def bytes_in_index(type_: IndexType, dimension: int) -> int:
    """What a vector alone takes."""
    return {"vector": 4 * dimension, "halfvec": 2 * dimension, "bit": -(-dimension // 8)}[type_]


def _sized(type_: str, dimension: int, schema: str | None) -> Composed:
    return SQL("{}({})").format(_in(schema, type_), Constant(dimension))


def _in(schema: str | None, name: str) -> Identifier:
    return Identifier(schema, name) if schema else Identifier(name)
