import os

import pytest

from embedstream.settings import Settings
from support.stack import RunningStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The whole embedded stack with the real model, started by the real command."""
    directory = tmp_path_factory.mktemp("stack")
    names = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    stack = RunningStack(directory, {**environment, "FLINK_CHECKPOINT_INTERVAL_MS": "1000"})
    try:
        stack.command("local", "up", "--detach", "--dir", str(directory), timeout=240)
        stack.enter()
        yield stack
    finally:
        stack.command("local", "down", "--dir", str(directory), timeout=120)
    assert stack.processes() == []
    assert stack.log_files_with(stack.secret) == []
