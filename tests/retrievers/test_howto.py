"""The code of docs/howto/langchain-llamaindex.md, run with the real libraries against the embedded stack."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.stack import running_stack, wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peers" / "retrievers" / "bin" / "python"
PAGE = (ROOT / "docs" / "howto" / "langchain-llamaindex.md").read_text()
EXAMPLES = {
    name: (code, output)
    for name, code, output in re.findall(r"```python\n# (\w+)\.py\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)
}
NOTES = (
    '{"id": "draw", "text": "how to draw a sample: random.sample picks elements", "metadata": {"kind": "note"}}\n'
    '{"id": "sort", "text": "list.sort sorts a list in place", "metadata": {"kind": "note"}}\n'
    '{"id": "csv", "text": "csv.reader reads lines of comma separated values", "metadata": {"kind": "page"}}\n'
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with running_stack(tmp_path_factory.mktemp("retrievers") / "stack", {}) as stack:
        stack.command("send", input=NOTES)
        wait(lambda: stack.query("SELECT count(*) FROM text_message_embeddings") == [(3,)], 60, "three rows")
        yield stack


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_the_page_says(stack, name):
    settings = stack.settings
    database = f"host={settings.pgvector_host} port={settings.pgvector_port} dbname={settings.pgvector_db}"
    environment = {
        **os.environ, "CONSOLE_URL": stack.parts()["console"]["address"],
        "EMBEDDING_SERVICE_URL": settings.embedding_service_url,
        "DATABASE_URL": f"{database} user={settings.pgvector_user}"
        + (f" password={settings.pgvector_password.get_secret_value()}" if settings.pgvector_password else ""),
    }  # fmt: skip
    code, output = EXAMPLES[name]
    done = subprocess.run([PYTHON, "-c", code], env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert without_offsets(done.stdout) == without_offsets(output)


def without_offsets(text):
    """Which partition a message went to is the producer's matter."""
    return re.sub(r"'as_of': \{[^}]*\}", "'as_of': …", text)


def test_the_page_has_all_three():
    assert set(EXAMPLES) == {"langchain_api", "llamaindex_api", "langchain_view"}
