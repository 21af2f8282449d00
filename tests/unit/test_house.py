"""What the project promises about itself."""

import ast
import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import embedstream
import readme
from embedstream.cli import app

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = ROOT / "docs" / "reference" / "messages.md"
FILES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_files_and_functions_keep_their_budgets(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert "type: ignore" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_the_configuration_table_is_that_of_the_settings():
    text = readme.README.read_text()
    assert readme.rendered(text) == text, "run `python tools/readme.py`"
    assert readme.table() in text


def test_the_changelog_knows_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"[{embedstream.__version__}]" in text or "[Unreleased]" in text


def git(*arguments):
    return subprocess.run(["git", "-c", "core.autocrlf=true", *arguments], capture_output=True, check=True).stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone, but a copy of the files")
def test_a_clone_by_git_for_windows_has_the_line_ends_of_linux(tmp_path):
    """An entrypoint with carriage returns does not start."""
    git("clone", "--quiet", "--depth", "1", ROOT.as_uri(), str(tmp_path / "clone"))
    listed = git("-C", str(tmp_path / "clone"), "ls-files", "--eol").decode().splitlines()
    assert any(line.endswith("deploy/flink/entrypoint.sh") for line in listed)
    assert [line for line in listed if not re.match(r"i/(lf|none|-text)\s+w/(lf|none|-text)\s", line)] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone, but a copy of the files")
def test_so_has_an_archive():
    archive = git("-C", str(ROOT), "archive", "HEAD", "deploy", "e2e_test.sh", "compose.yaml")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        assert [file.name for file in files if file.isfile() and b"\r" in files.extractfile(file).read()] == []


def test_every_code_of_a_refusal_is_documented():
    sources = "".join(path.read_text() for path in (ROOT / "src" / "embedstream" / "decode").glob("*.py"))
    codes = set(re.findall(r'reject\(\s*"(\w+)"|"decode",\s*"(\w+)"|_reject_bytes\(\w+, "(\w+)"', sources))
    documented = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", MESSAGES.read_text(), flags=re.MULTILINE)))
    )
    assert {code for found in codes for code in found if code} <= documented
    assert "envelope" in documented


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_shows_an_example(path):
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert re.search(r"Example:\s", result.output)


def test_no_two_test_files_have_one_name():
    """Pytest takes them for one module."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
