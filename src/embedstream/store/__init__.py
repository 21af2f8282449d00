"""The table, its ledger, its space and its progress in PostgreSQL."""

from embedstream.store.chunks import DocumentStore
from embedstream.store.connection import (
    configure,
    connect,
    database,
    is_pooled,
    need_session,
    parameters,
    translated,
    trouble,
    without_limits,
)
from embedstream.store.names import Names, columns, documents_for, documents_of, statements
from embedstream.store.origin import remedy as space_remedy
from embedstream.store.progress import Forgotten, Progress, keeps_progress, read_forgotten, read_progress
from embedstream.store.rights import lacking_rights
from embedstream.store.schema import (
    check_columns,
    check_encoding,
    check_newest,
    lacks,
    pgvector_schema,
    prepare,
    see_pgvector,
    vector_type,
)
from embedstream.store.space import Terms, check_order, no_table, pinned_space, read_canary, read_space, read_terms
from embedstream.store.splitting import check_splitting, read_splitting
from embedstream.store.submission import (
    Counts,
    adopt,
    begin,
    forget_missing,
    lock,
    losses,
    read_counts,
    recount,
    replay,
)
from embedstream.store.table import TableStore

__all__ = [
    "Counts",
    "DocumentStore",
    "Forgotten",
    "Names",
    "Progress",
    "TableStore",
    "Terms",
    "adopt",
    "begin",
    "check_columns",
    "check_encoding",
    "check_newest",
    "check_order",
    "check_splitting",
    "columns",
    "configure",
    "connect",
    "database",
    "documents_for",
    "documents_of",
    "forget_missing",
    "is_pooled",
    "keeps_progress",
    "lacking_rights",
    "lacks",
    "lock",
    "losses",
    "need_session",
    "no_table",
    "parameters",
    "pgvector_schema",
    "pinned_space",
    "prepare",
    "read_canary",
    "read_counts",
    "read_forgotten",
    "read_progress",
    "read_space",
    "read_splitting",
    "read_terms",
    "recount",
    "replay",
    "see_pgvector",
    "space_remedy",
    "statements",
    "translated",
    "trouble",
    "vector_type",
    "without_limits",
]
