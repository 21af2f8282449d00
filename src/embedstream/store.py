"""The table, its ledger and its space in PostgreSQL."""

from __future__ import annotations

import re
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.sql import SQL, Composed, Identifier, Literal

from embedstream.errors import ConfigError, Rejected, StoreUnavailable
from embedstream.ingest import Change, Known, Written
from embedstream.message import Delete, Version
from embedstream.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from psycopg.abc import AdaptContext, Buffer
    from psycopg.sql import Composable

    from embedstream.settings import Settings

_INCOMING_TYPES = (
    "text", "timestamptz", "text", "int4", "int8", "text", "bytea",
    "text", "float4[]", "text", "timestamptz", "text", "int4", "bool",
)  # fmt: skip
# The largest dimensions that pgvector's HNSW takes, and the type that it takes them in.
_TYPES = {2000: "vector", 4000: "halfvec"}
# PostgreSQL cuts names at 63 bytes; the longest suffix of ours is `_dimension`.
_LONGEST_NAME = 53
# Number of dimensions, whether there are nulls, type of the elements, size, index of the first.
_ARRAY_HEADER = 5
_DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


class Names(NamedTuple):
    """The relations that belong to one table, each with the schema where it was given."""

    table: Identifier
    ledger: Identifier
    space: Identifier
    vectors: Identifier

    @classmethod
    def of(cls, table: str) -> Self:
        """The view of `text_message_embeddings` is `text_message_vectors`, that of another table `<table>_vectors`.

        Raises ConfigError for anything but `table` or `schema.table`, and for a name that leaves no room for suffixes.
        """
        *schema, name = table.split(".")
        if len(schema) > 1 or not all([name, *schema]):
            raise ConfigError(f"PGVECTOR_TABLE={table!r}: write table, or schema.table")
        if len(name.encode()) > _LONGEST_NAME or name == "incoming":
            raise ConfigError(f"PGVECTOR_TABLE={table!r}: take another name, of at most {_LONGEST_NAME} bytes")
        stem = "text_message" if name == "text_message_embeddings" else name
        suffixed = (name, f"{name}_ledger", f"{name}_space", f"{stem}_vectors")
        return cls(*(Identifier(*schema, each) for each in suffixed))


class TableStore:
    """Writes micro-batches (see `ingest.Store`); one connection, opened when needed and again after trouble."""

    def __init__(self, settings: Settings, space: Space) -> None:
        self._settings = settings
        self._space = space
        self._sql = statements(settings.pgvector_table)
        self._connection: psycopg.Connection[Any] | None = None

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def look_up(self, ids: Sequence[str]) -> Mapping[str, Known]:
        with self._connected() as connection:
            rows = connection.execute(self._sql["look_up"], {"ids": ids}, prepare=True)
            return {id: Known(Version(*version), hash_) for id, *version, hash_ in rows}

    def write(self, changes: Sequence[Change]) -> Written:
        """Where PostgreSQL refuses a row for its data, the others are written all the same."""
        try:
            with self._connected() as connection, connection.transaction(), connection.cursor() as cursor:
                return Written(self._write(cursor, changes), {})
        except _DATA_ERRORS as exc:
            if len(changes) == 1:
                return Written((), {changes[0].item.id: _refusal(exc)})
        middle = len(changes) // 2
        left, right = self.write(changes[:middle]), self.write(changes[middle:])
        return Written({*left.won, *right.won}, {**left.rejected, **right.rejected})

    def _write(self, cursor: psycopg.Cursor[Any], changes: Sequence[Change]) -> set[str]:
        with cursor.copy(self._sql["copy_incoming"]) as copy:
            copy.set_types(_INCOMING_TYPES)
            for change in changes:
                copy.write_row(_row(change))
        won = {id for (id,) in cursor.execute(self._sql["claim"], prepare=True)}
        facts = {"won": list(won), "model_name": self._space.model_name, "model_revision": self._space.model_revision}
        for name in sorted({_statement(change) for change in changes if change.item.id in won}):
            cursor.execute(self._sql[name], facts, prepare=True)
        return won

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        """Yields a live connection; turns trouble of the database, but not of the data, into StoreUnavailable."""
        try:
            if self._connection is None:
                self._connection = self._open()
            yield self._connection
        except _DATA_ERRORS:
            raise
        except psycopg.Error as exc:
            self.close()
            raise StoreUnavailable(trouble(exc)) from exc

    def _open(self) -> psycopg.Connection[Any]:
        connection = connect(self._settings)
        connection.adapters.register_dumper(np.ndarray, _VectorDumper)
        connection.execute(self._sql["by_primary_key"])
        connection.execute(self._sql["create_incoming"])
        return connection


def connect(settings: Settings) -> psycopg.Connection[Any]:
    """An autocommitting connection in UTC; raises psycopg.OperationalError where the database is away."""
    password = settings.pgvector_password
    return psycopg.connect(
        host=settings.pgvector_host,
        port=settings.pgvector_port,
        dbname=settings.pgvector_db,
        user=settings.pgvector_user,
        password=password.get_secret_value() if password else None,
        sslmode=settings.pgvector_sslmode,
        connect_timeout=5,
        application_name="embedstream",
        client_encoding="UTF8",
        options="-c timezone=UTC -c datestyle=ISO",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=30_000,
        autocommit=True,
    )


@contextmanager
def database(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection for one command; trouble becomes StoreUnavailable, what the operator can mend ConfigError."""
    try:
        with connect(settings) as connection:
            yield connection
    except psycopg.OperationalError as exc:
        where = f"{settings.pgvector_host}:{settings.pgvector_port}/{settings.pgvector_db}"
        raise StoreUnavailable(f"PostgreSQL at {where}: {trouble(exc)}: check PGVECTOR_*") from exc
    except psycopg.Error as exc:
        raise ConfigError(f"PostgreSQL, as user {settings.pgvector_user}: {trouble(exc)}") from exc


def prepare(settings: Settings, space: Space) -> None:
    """Create what is missing of the schema, and pin the table to `space`.

    Raises ConfigError where the table is pinned to another space, or is not one of ours.
    """
    vector_type(space.dimension)
    if settings.pgvector_dimension not in (None, space.dimension):
        raise ConfigError(f"PGVECTOR_DIMENSION={settings.pgvector_dimension}, but the service embeds with {space}")
    with database(settings) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('embedstream schema'))")
        check_encoding(connection, settings)
        check_columns(connection, settings.pgvector_table)
        _check_space(read_space(connection, settings), space, settings)
        connection.execute(_schema(settings.pgvector_table, space.dimension))
        connection.execute(statements(settings.pgvector_table)["pin_space"], space)


def read_space(connection: psycopg.Connection[Any], settings: Settings) -> Space | None:
    """The space that the table is pinned to; None where no job was ever submitted for it."""
    if not columns(connection, Names.of(settings.pgvector_table).space):
        return None
    row = connection.execute(statements(settings.pgvector_table)["read_space"]).fetchone()
    return Space(*row) if row else None


def pinned_space(connection: psycopg.Connection[Any], settings: Settings) -> Space:
    """As `read_space`; raises ConfigError where there is no table."""
    space = read_space(connection, settings)
    if space is None:
        raise ConfigError(f"there is no table {settings.pgvector_table} yet: embedstream submit makes it")
    return space


def check_encoding(connection: psycopg.Connection[Any], settings: Settings) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"database {settings.pgvector_db} is in {encoding}: set PGVECTOR_DB to one in UTF8")


def check_columns(connection: psycopg.Connection[Any], table: str) -> None:
    found = columns(connection, Names.of(table).table)
    if found and (found.get("embedding") != "real[]" or "message_timestamp" not in found):
        raise ConfigError(f"table {table} exists, but is not one of embedstream's: set PGVECTOR_TABLE to another name")


def columns(connection: psycopg.Connection[Any], relation: Identifier) -> dict[str, str]:
    """The types of a relation's columns by name; nothing where there is no such relation."""
    query = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    )
    return dict(connection.execute(query, [relation.as_string(connection)]).fetchall())


def _check_space(pinned: Space | None, offered: Space, settings: Settings) -> None:
    if pinned not in (None, offered):
        raise ConfigError(
            f"table {settings.pgvector_table} holds vectors of {pinned}, but the service embeds with {offered}: "
            "start the service with the table's model, or set PGVECTOR_TABLE to another table"
        )


def vector_type(dimension: int) -> tuple[str, Composed]:
    """The type of the view's column and of the index: its name, and with the dimension, as it stands in SQL.

    Raises ConfigError for more dimensions than pgvector can index.
    """
    for largest, name in _TYPES.items():
        if dimension <= largest:
            return name, SQL("{}({})").format(Identifier(name), Literal(dimension))
    raise ConfigError(f"{dimension} are more than the {max(_TYPES)} dimensions that pgvector can index")


def _schema(table: str, dimension: int) -> Composed:
    names = Names.of(table)
    check = Identifier(f"{table.rpartition('.')[2]}_dimension")
    text = resources.files("embedstream.sql").joinpath("schema.sql").read_text(encoding="utf-8")
    _, type_ = vector_type(dimension)
    return SQL(text).format(**names._asdict(), dimension=Literal(dimension), dimension_check=check, vector=type_)


def statements(table: str, file: str = "statements.sql", **others: Composable) -> dict[str, Composed]:
    """The statements of a file in sql/ by name, filled in for `table` and with `others`."""
    text = resources.files("embedstream.sql").joinpath(file).read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    names = Names.of(table)._asdict()
    return {name: SQL(body).format(**names, **others) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _statement(change: Change) -> str:
    if isinstance(change.item, Delete):
        return "delete"
    return "store" if change.embedded else "keep"


def _row(change: Change) -> tuple[object, ...]:
    item = change.item
    if isinstance(item, Delete):
        return (item.id, *item.version, "deleted", *(None,) * 8)
    head = (item.id, *item.version, "live", item.content_hash)
    if change.embedded is None:
        return (*head, None, None, item.source, item.timestamp, item.metadata, None, None)
    vector, tokens, truncated = change.embedded
    return (*head, item.text, vector, item.source, item.timestamp, item.metadata, tokens, truncated)


class _VectorDumper(Dumper):
    """A float32 array of shape (n,) as PostgreSQL's binary real[] (src/backend/utils/adt/arrayfuncs.c, array_send)."""

    format = Format.BINARY
    oid = psycopg.adapters.types["float4"].array_oid

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self._words = _words_of_array(0)

    def dump(self, obj: np.ndarray[Any, Any]) -> Buffer:
        if len(self._words) != _ARRAY_HEADER + 2 * len(obj):
            self._words = _words_of_array(len(obj))
        self._words[_ARRAY_HEADER + 1 :: 2].view(">f4")[:] = obj
        return self._words.tobytes()


def _words_of_array(size: int) -> np.ndarray[Any, Any]:
    """All of a binary real[] but its numbers, each of which has its length in bytes before it."""
    words = np.full(_ARRAY_HEADER + 2 * size, 4, ">i4")
    words[:_ARRAY_HEADER] = 1, 0, psycopg.adapters.types["float4"].oid, size, 1
    return words


def _refusal(exc: psycopg.Error) -> Rejected:
    return Rejected("store", f"sqlstate_{exc.sqlstate}", f"PostgreSQL refuses the row ({type(exc).__name__})")


def trouble(exc: psycopg.Error) -> str:
    """One line without document text: the server quotes values only in the detail, which is left out."""
    lines = (exc.diag.message_primary or str(exc)).strip().splitlines()
    failures = [line for line in lines if " failed: " in line] or lines or [type(exc).__name__]
    return failures[-1].strip("- \t")
