import pytest

from support.stack import running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The whole embedded stack with the real model, started by the real command; in f32, to compare its vectors."""
    settings = {"FLINK_CHECKPOINT_INTERVAL_MS": "1000", "INDEX_MIN_ROWS": "100", "EMBEDDING_PRECISION": "f32"}
    with running_stack(tmp_path_factory.mktemp("stack"), settings) as stack:
        yield stack
    assert stack.log_files_with(stack.secret) == []
