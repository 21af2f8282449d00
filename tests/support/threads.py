"""Work that several threads do at a time."""

from concurrent.futures import ThreadPoolExecutor


def failures_of(work, count):
    """What `work` raised in as many threads, each of which gets its number."""
    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(work, number) for number in range(count)]
    return [exc for future in futures if (exc := future.exception())]
