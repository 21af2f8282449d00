import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embedstream.service import batching
from embedstream.service.batching import Batcher, Draining, EngineFailed, QueueFull
from embedstream.service.engine.fake import HashEngine
from embedstream.service.engine.tokens import Tokens, padded_length


class LengthEngine(HashEngine):
    """A text is its number of tokens, and its vector that number; batches are noted, and wait at the gate."""

    def __init__(self, workers=1):
        super().__init__(1, workers)
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.batches = []

    def tokenize(self, texts):
        return [Tokens(np.full(int(text), int(text), np.int32), int(text)) for text in texts]

    def open_worker(self):
        def infer(texts):
            self.waiting.release()
            assert self.gate.wait(20)
            self.batches.append([len(ids) for ids in texts])
            return np.array([[ids[0]] for ids in texts], np.float32)

        return infer


@pytest.fixture
def engine():
    return LengthEngine()


@pytest.fixture
def batcher(engine):
    batcher = Batcher(engine, queue_texts=100, batch_tokens=64)
    yield batcher
    engine.gate.set()
    batcher.drain(5)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(32) as threads:
        yield threads


def embed(batcher, *lengths):
    return batcher.embed([str(length) for length in lengths])


def occupied(batcher, engine, threads):
    """A request that holds the only worker at the gate."""
    first = threads.submit(embed, batcher, 1)
    assert engine.waiting.acquire(timeout=20)
    return first


def queued(batcher, threads, *lengths):
    before = batcher.queue_length
    future = threads.submit(embed, batcher, *lengths)
    wait_until(lambda: sum(map(len, batcher._buckets.values())) >= before - 1 + len(lengths))
    return future


def wait_until(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError


def test_an_idle_worker_runs_at_once(batcher, engine):
    engine.gate.set()
    assert embed(batcher, 5).vectors.tolist() == [[5.0]]
    assert engine.batches == [[5]]


def test_texts_of_like_length_share_a_batch_and_the_longest_waiting_goes_first(batcher, engine, threads):
    first = occupied(batcher, engine, threads)
    others = [queued(batcher, threads, 30, 3), queued(batcher, threads, 31, 60), queued(batcher, threads, 8, 1)]
    engine.gate.set()
    assert [future.result().vectors.ravel().tolist() for future in [first, *others]] == [[1], [30, 3], [31, 60], [8, 1]]
    assert engine.batches == [[1], [30, 31], [3, 8, 1], [60]]


def test_a_batch_has_so_many_padded_tokens_at_most(batcher, engine, threads):
    first = occupied(batcher, engine, threads)
    second = queued(batcher, threads, *[17] * 7, *[200] * 2)
    engine.gate.set()
    first.result()
    assert second.result().vectors.ravel().tolist() == [17] * 7 + [200] * 2
    assert engine.batches == [[1], [17, 17], [17, 17], [17, 17], [17], [200], [200]]


def test_a_text_too_long_for_a_batch_goes_alone(batcher, engine, threads):
    first = occupied(batcher, engine, threads)
    second = queued(batcher, threads, 100, 100)
    engine.gate.set()
    first.result()
    assert second.result().token_counts == [100, 100]
    assert engine.batches == [[1], [100], [100]]


def test_all_workers_work(threads):
    engine = LengthEngine(workers=3)
    batcher = Batcher(engine, queue_texts=100)
    futures = [threads.submit(embed, batcher, length) for length in (10, 20, 30)]
    for _ in futures:
        assert engine.waiting.acquire(timeout=20)
    engine.gate.set()
    assert [future.result().vectors[0, 0] for future in futures] == [10, 20, 30]
    assert batcher.drain(5)


def test_every_request_gets_its_own_vectors_in_its_own_order(threads):
    batcher = Batcher(HashEngine(16, workers=2), queue_texts=100_000)
    requests = [[f"request {number} text {row}" for row in range(number)] for number in range(200)]
    answers = list(threads.map(batcher.embed, requests))
    engine = HashEngine(16)
    for texts, answer in zip(requests, answers, strict=True):
        assert answer.vectors.shape == (len(texts), 16)
        if texts:
            assert np.array_equal(answer.vectors, engine._vectors([one.ids for one in engine.tokenize(texts)]))
    assert batcher.queue_length == 0
    assert not batcher._requests
    assert not batcher._buckets
    assert batcher.drain(5)


def test_a_full_queue_takes_a_request_whole_or_not_at_all(batcher, engine, threads):
    occupied(batcher, engine, threads)
    queued(batcher, threads, *[5] * 90)
    with pytest.raises(QueueFull) as refusal:
        embed(batcher, *[5] * 10)
    assert refusal.value.retry_after == 1.0
    assert batcher.queue_length == 91
    last = queued(batcher, threads, *[5] * 9)
    engine.gate.set()
    assert len(last.result().vectors) == 9


def refused_after(batcher, texts):
    with pytest.raises(QueueFull) as refusal:
        embed(batcher, *[5] * texts)
    return refusal.value.retry_after


def test_the_wait_of_a_full_queue_follows_the_measured_rate(batcher, engine, threads):
    occupied(batcher, engine, threads)
    queued(batcher, threads, *[5] * 99)
    batcher._measured.extend([(1, 0.2), (3, 0.2)])
    assert refused_after(batcher, 40) == 4
    batcher._promised = 0.0
    batcher._measured.clear()
    batcher._measured.append((1000, 0.1))
    assert refused_after(batcher, 1) == 1
    engine.gate.set()


def test_who_is_refused_comes_again_after_those_that_were_refused_before(batcher, engine, threads):
    occupied(batcher, engine, threads)
    queued(batcher, threads, *[5] * 99)
    batcher._measured.append((10, 1.0))
    assert [refused_after(batcher, 20) for _ in range(7)] == [2, 4, 6, 8, 10, 10, 10]
    batcher._measured.append((1, 1000.0))
    assert refused_after(batcher, 20) == 60
    engine.gate.set()


def test_so_many_requests_may_wait(engine, threads):
    batcher = Batcher(engine, queue_texts=100, requests=2)
    occupied(batcher, engine, threads)
    queued(batcher, threads, 5)
    assert refused_after(batcher, 1) == 1
    engine.gate.set()
    wait_until(lambda: not batcher.queue_length)
    assert len(embed(batcher, 5).vectors) == 1
    assert batcher.drain(5)


def test_of_a_request_that_was_given_up_nothing_is_computed(batcher, engine, threads):
    occupied(batcher, engine, threads)
    with pytest.raises(ValueError, match="invalid literal"):
        batcher.embed(["7"] * 64 + ["no number"])
    assert batcher.queue_length == 1
    engine.gate.set()
    assert len(embed(batcher, 9).vectors) == 1
    assert engine.batches == [[1], [9]]


def test_draining_finishes_what_was_accepted(batcher, engine, threads):
    first = occupied(batcher, engine, threads)
    second = queued(batcher, threads, 9, 17)
    drained = threads.submit(batcher.drain, 20)
    wait_until(lambda: batcher._draining)
    with pytest.raises(Draining):
        embed(batcher, 5)
    engine.gate.set()
    assert (len(first.result().vectors), len(second.result().vectors)) == (1, 2)
    assert drained.result()
    assert not any(thread.is_alive() for thread in batcher._threads)


def test_draining_gives_up_in_time(batcher, engine, threads):
    first = occupied(batcher, engine, threads)
    second = queued(batcher, threads, 9)
    assert not batcher.drain(0.05)
    for future in (first, second):
        with pytest.raises(Draining):
            future.result()
    assert batcher.queue_length == 0


def test_a_failing_tokeniser_leaves_no_trace_in_the_queue(batcher, engine):
    with pytest.raises(ValueError, match="invalid literal"):
        batcher.embed(["5", "no number"])
    assert batcher.queue_length == 0
    engine.gate.set()
    assert len(embed(batcher, *[5] * 100).vectors) == 100


class HalfNumber(HashEngine):
    def open_worker(self):
        def infer(texts):
            vectors = self._vectors(texts)
            vectors[[np.array_equal(ids, self.tokenize(["bad"])[0].ids) for ids in texts]] = np.nan
            return vectors

        return infer


def test_a_vector_that_is_not_finite_is_no_vector(caplog):
    batcher = Batcher(HalfNumber(4), queue_texts=10)
    with pytest.raises(EngineFailed) as failure:
        batcher.embed(["good", "bad", "better"])
    assert failure.value.index == 1
    assert len(batcher.embed(["good", "better"]).vectors) == 2
    assert "is not finite" in caplog.text
    assert batcher.drain(5)


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [
        ([], []),
        ([1] * 64, [(0, 64)]),
        ([1] * 65, [(0, 64), (64, 65)]),
        ([1, 70_000, 1], [(0, 1), (1, 2), (2, 3)]),
        ([70_000, 70_000], [(0, 1), (1, 2)]),
        ([1] * 64 + [70_000], [(0, 64), (64, 65)]),
    ],
)
def test_a_huge_text_is_tokenised_by_itself(sizes, runs):
    assert list(batching._chunks(["x" * size for size in sizes])) == [range(*run) for run in runs]


def test_lengths_are_padded_in_steps_of_eight():
    assert [padded_length(length) for length in (1, 8, 9, 256)] == [8, 8, 16, 256]
