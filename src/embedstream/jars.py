"""The jars that the stack runs: downloaded once, checked against the lock, kept in the user's cache directory."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from embedstream.errors import ConfigError
from embedstream.settings import Settings, load_settings

Section = Literal["kafka", "flink"]
SECTIONS: tuple[Section, ...] = ("kafka", "flink")

SHA256_DIGITS = 64
ATTEMPTS = 3
DOWNLOADS_AT_ONCE = 8


@dataclass(frozen=True, order=True)
class Jar:
    group: str
    artifact: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    def path(self, cache: Path) -> Path:
        return cache / self.group / f"{self.artifact}-{self.version}.jar"


Resolver = Callable[[Jar, Path], Path]
"""Downloads a jar into a directory and returns the file."""


def cache_directory(settings: Settings) -> Path:
    import platformdirs  # noqa: PLC0415 - of the extra `jars`; the lock is read without it

    return (settings.embedstream_cache_dir or platformdirs.user_cache_path("embedstream")).resolve() / "jars"


def parse_lock(text: str) -> dict[str, list[Jar]]:
    """The jars of each `[section]` of a lock file.

    Raises ConfigError that names the first line that is none.
    """
    sections: dict[str, list[Jar]] = {}
    current: list[Jar] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            current.append(_parse_jar(line, number))
    return sections


def _parse_jar(line: str, number: int) -> Jar:
    coordinate, _, sha256 = line.partition(" ")
    match coordinate.split(":"):
        case [group, artifact, version] if len(sha256) == SHA256_DIGITS:
            return Jar(group, artifact, version, sha256)
    raise ConfigError(f"jars.lock, line {number}: expected group:artifact:version sha256")


def locked_jars(section: Section) -> list[Jar]:
    return parse_lock(files(__package__).joinpath("jars.lock").read_text(encoding="utf-8"))[section]


def jar_paths(section: Section, cache: Path) -> list[Path]:
    return [jar.path(cache) for jar in locked_jars(section)]


def missing_jars(section: Section, cache: Path) -> list[Jar]:
    """The jars that are not in the cache, or not as the lock wants them."""
    return [jar for jar in locked_jars(section) if not is_sound(jar, jar.path(cache))]


def download(jars: list[Jar], cache: Path, resolver: Resolver | None = None) -> None:
    """Bring these jars into the cache; each appears there whole and checked, or not at all.

    Raises ConfigError that names the jar that cannot be had or has another hash.
    """
    if not jars:
        return
    cache.mkdir(parents=True, exist_ok=True)
    fetch = resolver or maven_resolver()
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as scratch:
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            done = [pool.submit(_download_one, jar, cache, Path(scratch), fetch) for jar in jars]
        for future in done:
            future.result()


def _download_one(jar: Jar, cache: Path, scratch: Path, fetch: Resolver) -> None:
    downloaded = _with_retries(jar, scratch, fetch)
    if not is_sound(jar, downloaded):
        raise ConfigError(f"jar {jar} was downloaded but its sha256 is not the locked one: {jar.sha256}")
    target = jar.path(cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    downloaded.replace(target)


def _with_retries(jar: Jar, scratch: Path, fetch: Resolver) -> Path:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            # A directory for each attempt: what a broken one left behind must not be taken for the jar.
            return fetch(jar, scratch / f"{jar.group}.{jar.artifact}.{attempt}")
        except (OSError, RuntimeError) as exc:  # what jgo and requests raise
            failure = exc
    raise ConfigError(f"jar {jar} cannot be downloaded: {failure}") from failure


def is_sound(jar: Jar, path: Path) -> bool:
    """Whether the file is there, as the lock wants it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


def maven_resolver() -> Resolver:
    """Downloads from the repository that jgo knows, one artifact at a time, without its dependencies."""
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - half a second that cached jars do not need

    def fetch(jar: Jar, directory: Path) -> Path:
        context = MavenContext(resolver=PythonResolver(), repo_cache=directory)
        return Path(context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve())

    return fetch


def main(sections: list[Section]) -> None:
    """Download what is missing of these sections; the supervisor runs this as a process that it can end."""
    cache = cache_directory(load_settings())
    download([jar for section in sections for jar in missing_jars(section, cache)], cache)


if __name__ == "__main__":
    try:
        main([section for section in SECTIONS if section in sys.argv[1:]])
    except ConfigError as exc:
        sys.stderr.write(f"embedstream: {exc}\n")
        sys.exit(2)
