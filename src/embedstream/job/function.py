"""The adapter between Flink and `ingest`: one vectorized function, called once per micro-batch."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import psutil
from pyflink.table import DataTypes
from pyflink.table.udf import FunctionContext, ScalarFunction

from embedstream import embedding, kafka, store
from embedstream.decode.message import Record
from embedstream.decode.opening import decoder_of
from embedstream.documents import DocumentIngest
from embedstream.embedding import EmbeddingClient
from embedstream.ingest import Ingest
from embedstream.job.metrics import JobMetrics
from embedstream.migrate.following import Built, Following, Stays
from embedstream.migrate.second import MigratingDocuments, MigratingStore
from embedstream.retry import Patience
from embedstream.splitting import splitter_of
from embedstream.worker import worker_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.canary import Vectors
    from embedstream.ingest import Outcome
    from embedstream.settings import Settings
    from embedstream.space import Space

_FIELDS = ("kind", "stage", "error", "reason", "items")
RESULT = DataTypes.ROW([DataTypes.FIELD(name, DataTypes.STRING()) for name in _FIELDS])

# Key, value, topic, partition, offset and timestamp; the headers that the mapping asks for follow.
_FIXED = 6
_NO_ROW = (None,) * len(_FIELDS)


class IngestFunction(ScalarFunction):
    """Rows of `RESULT`, one for each record; stage, error and reason only where a record was rejected, items where only
    some of the messages that came of it were.

    The world is first asked for in the first call, where Patience waits out its trouble, not in `open`.
    """

    def __init__(self, settings: Settings, headers: Sequence[str] = ()) -> None:
        self._submitted = settings
        self._headers = tuple(headers)

    def is_deterministic(self) -> bool:
        return False

    def open(self, function_context: FunctionContext) -> None:
        self._settings = worker_settings(self._submitted)
        logging.getLogger("embedstream").setLevel(self._settings.log_level)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for each request
        _end_with_task_manager()
        # What PyFlink and pandas have made stays for ever: not for each full collection to look at again.
        gc.freeze()
        self._patience = Patience()
        self._ingest = Following(self._build, self._patience)
        self._metrics = JobMetrics(function_context.get_metric_group(), self._patience)

    def eval(self, *columns: pd.Series[Any]) -> pd.DataFrame:
        # Rows without a topic only make a large record count for more; see `tables.weighed`.
        whole = columns[2].notna()
        *fields, timestamp = (columns if whole.all() else [each[whole] for each in columns])[:_FIXED]
        milliseconds = timestamp.astype("datetime64[ms]").astype("int64")
        records = [Record(*each) for each in zip(*fields, milliseconds, strict=True)]
        if self._headers:
            records = [
                record._replace(headers=self._named(values))
                for record, *values in zip(records, *(each[whole] for each in columns[_FIXED:]), strict=True)
            ]
        outcomes = self._ingest(records)
        self._metrics.count(self._ingest, outcomes, milliseconds.to_numpy(), time.time_ns() // 1_000_000)
        rows = iter(outcomes)
        return pd.DataFrame(
            [_row(next(rows)) if has_record else _NO_ROW for has_record in whole],
            columns=_FIELDS, dtype=object,
        )  # fmt: skip

    def _named(self, values: Sequence[bytes | None]) -> dict[str, bytes | None]:
        """The headers that are there; one without a value is taken for missing, since SQL tells no difference."""
        return {name: value for name, value in zip(self._headers, values, strict=True) if value is not None}

    def _build(self) -> Built:
        settings = self._settings
        space, also = self._patience(lambda: _space(settings))
        models = (space.model_name, *also.former_models)
        canary = self._patience(lambda: _canary(settings))
        patience = Stays(self._patience, settings, space)
        splitter = patience(lambda: splitter_of(settings, space, also.url))
        embedder = EmbeddingClient(settings, space, patience, also=also.url, canary=canary)
        decode, has_record = decoder_of(settings, *models), partial(kafka.has_record, settings)
        if splitter is None:
            table = MigratingStore(store.TableStore(settings, space, has_record), settings)
            return _built(Ingest(embedder, table, decode, self._patience), space, table.close, embedder.close)
        self._patience(lambda: _check_splitting(settings, space, splitter.identity))
        documents = MigratingDocuments(store.DocumentStore(settings, space, has_record), settings)
        ingest = DocumentIngest(embedder, documents, decode, self._patience, splitter)
        return _built(ingest, space, documents.close, embedder.close)


def _built(ingest: Ingest, space: Space, *closing: Callable[[], None]) -> Built:
    def close() -> None:
        for each in closing:
            each()

    return Built(ingest, space, close)


def _space(settings: Settings) -> tuple[Space, store.Service]:
    """The space that the table is pinned to; a TaskManager may have been given another table than the submitter's."""
    with store.database(settings) as connection:
        pinned, also = store.read_space(connection, settings), store.read_service(connection, settings)
    if pinned is None:
        pinned = embedding.read_space(settings)
        splitter = splitter_of(settings, pinned)
        identity = splitter.identity if splitter else None
        store.prepare(settings, pinned, splitting=identity, canary=embedding.read_canary(settings))
    return pinned, also


def _check_splitting(settings: Settings, space: Space, splitting: str) -> None:
    """Nothing is said of a table that went to another space meanwhile: the first write will find that."""
    with store.database(settings) as connection, connection.transaction():
        if store.still_holds(connection, settings, space):
            store.check_splitting(store.read_splitting(connection, settings), splitting, settings)


def _canary(settings: Settings) -> Vectors | None:
    with store.database(settings) as connection:
        return store.read_canary(connection, settings)


def _row(outcome: Outcome) -> tuple[str | None, ...]:
    error = outcome.error
    if error is None:
        return (outcome.kind, None, None, None, None)
    items = ",".join(map(str, outcome.rejected_items)) if outcome.items else None
    return (outcome.kind, error.stage, error.code, error.reason, items)


def _end_with_task_manager() -> None:
    """End this process when its TaskManager is gone: it would go on for ever, perhaps in an open transaction."""
    java = next((process for process in psutil.Process().parents() if "java" in process.name()), None)
    if java:
        threading.Thread(target=_watch, args=(java,), name="watchdog", daemon=True).start()


def _watch(task_manager: psutil.Process) -> None:
    try:
        while task_manager.is_running() and task_manager.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1.0)
    finally:
        os._exit(1)
