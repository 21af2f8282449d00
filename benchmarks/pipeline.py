"""The pipeline's rate, from topic to committed rows, as a share of the raw engine's on the same texts."""

from __future__ import annotations

import json
import random
import statistics
import time
import uuid
from typing import TYPE_CHECKING

from embedstream import kafka, store
from embedstream.corpus import docstrings
from embedstream.kafka import Outgoing
from embedstream.service.batching import Batcher
from embedstream.service.loading import load_engine

if TYPE_CHECKING:
    from embedstream.settings import Settings


def measure(settings: Settings, rounds: int, texts: int) -> dict[str, object]:
    """Interleaved rounds of the engine alone and of the pipeline, each over the same seeded choice of docstrings."""
    batcher = Batcher(load_engine(settings), queue_texts=texts)
    engine_rates, pipeline_rates = [], []
    for number in range(rounds):
        chosen = _texts(number, texts)
        engine_rates.append(texts / _seconds_of_engine(batcher, chosen))
        pipeline_rates.append(texts / _seconds_of_pipeline(settings, chosen))
    ratios = [pipeline / engine for pipeline, engine in zip(pipeline_rates, engine_rates, strict=True)]
    return {
        "texts": texts,
        "engine_texts_per_second": engine_rates,
        "pipeline_messages_per_second": pipeline_rates,
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
    }


def _texts(seed: int, count: int) -> list[str]:
    """Distinct in each round, so that no vector is known already."""
    corpus = random.Random(seed).sample(docstrings(), count)
    return [f"{entry.text}\n{seed}" for entry in corpus]


def _seconds_of_engine(batcher: Batcher, texts: list[str]) -> float:
    began = time.perf_counter()
    batcher.embed(texts)
    return time.perf_counter() - began


def _seconds_of_pipeline(settings: Settings, texts: list[str]) -> float:
    prefix = uuid.uuid4().hex[:8]
    ids = [f"{prefix}-{number}" for number in range(len(texts))]
    records = [
        Outgoing(json.dumps({"id": id, "text": text}).encode(), id.encode())
        for id, text in zip(ids, texts, strict=True)
    ]
    began = time.perf_counter()
    kafka.produce(settings, settings.kafka_input_topic, records)
    with store.connect(settings) as connection:
        statement = f"SELECT count(*) FROM {settings.pgvector_table} WHERE id LIKE '{prefix}-%'"  # noqa: S608
        while connection.execute(statement).fetchall() != [(len(texts),)]:
            time.sleep(0.05)
    return time.perf_counter() - began
