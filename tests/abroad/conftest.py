import pytest

from support.stack import running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """One embedded stack for all that is tested here, with an engine that is never the bottleneck."""
    settings = {"EMBEDDING_MODEL": "fake:64", "FLINK_CHECKPOINT_INTERVAL_MS": "1000", "INDEX": "off"}
    with running_stack(tmp_path_factory.mktemp("abroad"), settings) as stack:
        yield stack
