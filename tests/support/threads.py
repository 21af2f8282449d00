"""Work that several threads do at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


def failures_of(work, count):
    """What `work` raised in as many threads, each of which gets its number."""
    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(work, number) for number in range(count)]
    return [exc for future in futures if (exc := future.exception())]


@contextmanager
def repeated(work, pause=0.0):
    """Do `work` again and again in the background while the block runs, with so many seconds between."""
    ends = threading.Event()

    def loop():
        while not ends.wait(pause):
            work()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(120)
    assert not thread.is_alive()
