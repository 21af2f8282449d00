import pytest

from support.stack import running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The whole embedded stack with the real model, started by the real command."""
    with running_stack(
        tmp_path_factory.mktemp("stack"), {"FLINK_CHECKPOINT_INTERVAL_MS": "1000", "INDEX_MIN_ROWS": "100"}
    ) as stack:
        yield stack
    assert stack.log_files_with(stack.secret) == []
