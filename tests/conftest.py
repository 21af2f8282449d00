import sys

import pytest


@pytest.fixture
def say(capsys):
    """A line on the terminal, at once."""

    def write(line):
        with capsys.disabled():
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    return write
