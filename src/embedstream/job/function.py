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
from embedstream.decode.default import decoder
from embedstream.decode.message import Record, Rules
from embedstream.embedding import EmbeddingClient
from embedstream.ingest import Ingest
from embedstream.job.metrics import JobMetrics
from embedstream.retry import Patience
from embedstream.settings import worker_settings

if TYPE_CHECKING:
    from embedstream.ingest import Outcome
    from embedstream.settings import Settings
    from embedstream.space import Space

_FIELDS = ("kind", "stage", "error", "reason", "items")
RESULT = DataTypes.ROW([DataTypes.FIELD(name, DataTypes.STRING()) for name in _FIELDS])

_NO_ROW = (None,) * len(_FIELDS)


class IngestFunction(ScalarFunction):
    """Rows of `RESULT`, one for each record; stage, error and reason only where a record was rejected, items where only
    some of the messages that came of it were.

    The world is first asked for in the first call, where Patience waits out its trouble, not in `open`.
    """

    def __init__(self, settings: Settings) -> None:
        self._submitted = settings

    def is_deterministic(self) -> bool:
        return False

    def open(self, function_context: FunctionContext) -> None:
        self._settings = worker_settings(self._submitted)
        logging.getLogger("embedstream").setLevel(self._settings.log_level)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for each request
        _end_with_task_manager()
        # What PyFlink and pandas have made stays for ever: not for each full collection to look at again.
        gc.freeze()
        self._ingest: Ingest | None = None
        self._patience = Patience()
        self._metrics = JobMetrics(function_context.get_metric_group(), self._patience)

    def eval(self, *columns: pd.Series[Any]) -> pd.DataFrame:
        # Rows without a topic only make a large record count for more; see `tables.weighed`.
        whole = columns[2].notna()
        key, value, topic, partition, offset, timestamp = columns if whole.all() else (each[whole] for each in columns)
        milliseconds = timestamp.astype("datetime64[ms]").astype("int64")
        records = [Record(*fields) for fields in zip(key, value, topic, partition, offset, milliseconds, strict=True)]
        if self._ingest is None:
            self._ingest = self._build()
        outcomes = self._ingest(records)
        self._metrics.count(self._ingest, outcomes, milliseconds.to_numpy(), time.time_ns() // 1_000_000)
        rows = iter(outcomes)
        return pd.DataFrame(
            [_row(next(rows)) if has_record else _NO_ROW for has_record in whole],
            columns=_FIELDS, dtype=object,
        )  # fmt: skip

    def _build(self) -> Ingest:
        settings = self._settings
        space = self._patience(lambda: _space(settings))
        return Ingest(
            EmbeddingClient(settings, space, self._patience),
            store.TableStore(settings, space, partial(kafka.has_record, settings)),
            decoder(Rules.of(settings, space.model_name)),
            self._patience,
        )


def _space(settings: Settings) -> Space:
    """The space that the table is pinned to; a TaskManager may have been given another table than the submitter's."""
    with store.database(settings) as connection:
        pinned = store.read_space(connection, settings)
    if pinned is None:
        pinned = embedding.read_space(settings)
        store.prepare(settings, pinned)
    return pinned


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
