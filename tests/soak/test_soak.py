"""Random load for SOAK_MINUTES (30): the service's memory stays flat, and no answer is wrong."""

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.service import running_service

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
MODEL = os.environ.get("SOAK_MODEL", "sentence-transformers/all-MiniLM-L6-v2")
CLIENTS = 4
WORDS = ("parcel", "weather", "🎉", "naïve", "a", "incomprehensibilities", "x" * 9)
# The first third fills caches and pools: each new shape of a batch costs the engine memory, once.
SETTLED = 1 / 3
MAY_GROW_BYTES = 48_000_000


def load(url, seed, over):
    """Requests of all kinds and lengths until it is over; gives how many texts were embedded."""
    chance, done = random.Random(seed), 0
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        while not over.is_set():
            texts = [text(chance) for _ in range(chance.choice((1, 1, 2, 8, 32, 64)))]
            if chance.random() < 0.5:
                answer = client.post("/generate", json={"texts": texts, "encoding_format": "base64"})
                found = len(answer.json()["token_counts"]) if answer.is_success else None
            else:
                answer = client.post("/v1/embeddings", json={"input": texts, "model": MODEL})
                found = len(answer.json()["data"]) if answer.is_success else None
            assert answer.status_code in {200, 429}, answer.text
            assert found in {None, len(texts)}
            done += found or 0
            if chance.random() < 0.1:
                assert client.post("/generate", content=b"{", headers={"Content-Type": "application/json"}).is_error
    return done


def text(chance):
    words = int(min(20_000, chance.paretovariate(0.7) * 3)) if chance.random() < 0.9 else chance.randint(1, 300)
    return " ".join(chance.choice(WORDS) for _ in range(words))


def rss(service):
    return sum(process.memory_info().rss for process in service.family())


@pytest.mark.timeout(MINUTES * 60 + 300)
def test_memory_stays_flat_over_random_lengths(tmp_path):
    over, samples = threading.Event(), []
    with running_service(tmp_path, MODEL) as service, ThreadPoolExecutor(CLIENTS) as threads:
        futures = [threads.submit(load, service.url, seed, over) for seed in range(CLIENTS)]
        end = time.monotonic() + MINUTES * 60
        while time.monotonic() < end and not any(future.done() for future in futures):
            samples.append(rss(service))
            time.sleep(1)
        over.set()
        texts = sum(future.result() for future in futures)
        assert service.terminate() == 0
    settled = samples[int(len(samples) * SETTLED) :]
    half = len(settled) // 2
    before, after = (sorted(part)[len(part) // 2] for part in (settled[:half], settled[half:]))
    megabytes = [round(value / 1e6) for value in (samples[0], before, after, max(samples))]
    print(f"{texts} texts in {MINUTES:g} min; RSS in MB at first, before, after, at most: {megabytes}")
    assert after - before < MAY_GROW_BYTES
