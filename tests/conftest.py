import sys
from collections import Counter

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Whole stacks first: they take longest, and two processes that share the tests then end at the same time."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)
    twice = [id for id, count in Counter(item.nodeid for item in items).items() if count > 1]
    assert not twice, f"of tests with one id, only one would run in several processes: {twice}"


@pytest.fixture
def say(capsys):
    """A line on the terminal, at once."""

    def write(line):
        with capsys.disabled():
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    return write
