"""Requests to an embedding service, so many texts in each, over so many connections at a time."""

from __future__ import annotations

import base64
import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import orjson

from embedstream.errors import EmbedstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

Encoding = Literal["float", "base64"]


class Shape(NamedTuple):
    batch: int
    connections: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.connections}"


def load(url: str, texts: Sequence[str], shape: Shape, encoding: Encoding) -> dict[str, float]:
    """Every connection sends its next request when the answer to the last is decoded; latencies are of requests."""
    requests = [list(texts[start : start + shape.batch]) for start in range(0, len(texts), shape.batch)]
    shares = [requests[number :: shape.connections] for number in range(shape.connections)]
    began = time.perf_counter()
    with ThreadPoolExecutor(shape.connections) as pool:
        latencies = [seconds for own in pool.map(lambda share: _one_after_another(url, share, encoding), shares)
                     for seconds in own]  # fmt: skip
    rate = len(texts) / (time.perf_counter() - began)
    return {"texts_per_second": rate, **percentiles(latencies, (50, 99))}


def percentiles(seconds: Sequence[float], percents: Sequence[int]) -> dict[str, float]:
    """In milliseconds, as `p50_ms`."""
    return {f"p{percent}_ms": 1000 * float(np.percentile(seconds, percent)) for percent in percents}


def _one_after_another(url: str, requests: Sequence[Sequence[str]], encoding: Encoding) -> list[float]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        return [_request(connection, texts, encoding) for texts in requests]
    finally:
        connection.close()


def _request(connection: http.client.HTTPConnection, texts: Sequence[str], encoding: Encoding) -> float:
    began = time.perf_counter()
    body = json.dumps({"texts": texts, "encoding_format": encoding})
    connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.client.OK:
        raise EmbedstreamError(f"the service answers {response.status}")
    embeddings = orjson.loads(answer)["embeddings"]
    if encoding == "base64":
        embeddings = np.frombuffer(base64.b64decode(embeddings), "<f4").reshape(len(texts), -1)
    if len(embeddings) != len(texts):
        raise EmbedstreamError(f"the service answers with {len(embeddings)} vectors for {len(texts)} texts")
    return time.perf_counter() - began
