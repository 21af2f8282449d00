"""The table, its ledger and its space in PostgreSQL."""

from embedstream.store.connection import connect, database, trouble
from embedstream.store.names import Names, columns, statements
from embedstream.store.progress import Progress, read_progress
from embedstream.store.schema import check_columns, check_encoding, prepare, vector_type
from embedstream.store.space import pinned_space, read_space
from embedstream.store.table import TableStore

__all__ = [
    "Names",
    "Progress",
    "TableStore",
    "check_columns",
    "check_encoding",
    "columns",
    "connect",
    "database",
    "pinned_space",
    "prepare",
    "read_progress",
    "read_space",
    "statements",
    "trouble",
    "vector_type",
]
