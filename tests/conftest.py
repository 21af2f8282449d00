import sys

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Whole stacks first: they take longest, and two processes that share the tests then end at the same time."""
    items.sort(key=lambda item: "e2e" not in item.keywords)
    ids = [item.nodeid for item in items]
    assert len(ids) == len(set(ids)), "of tests with one id, only one would run in several processes"


@pytest.fixture
def say(capsys):
    """A line on the terminal, at once."""

    def write(line):
        with capsys.disabled():
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    return write
