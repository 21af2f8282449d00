"""The jars that the stack runs: downloaded once, checked against the lock, kept in the user's cache directory.

What comes as an archive of jars is unpacked there, and the archive is not kept.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from embedstream.errors import ConfigError
from embedstream.settings import Settings, load_settings

Section = Literal["kafka", "flink", "registry", "connect"]
SECTIONS: tuple[Section, ...] = ("kafka", "flink", "registry", "connect")

SHA256_DIGITS = 64
ATTEMPTS = 3
DOWNLOADS_AT_ONCE = 8


@dataclass(frozen=True, order=True)
class Jar:
    group: str
    artifact: str
    version: str
    sha256: str
    extension: str = "jar"
    classifier: str = ""

    def __str__(self) -> str:
        name = f"{self.group}:{self.artifact}:{self.version}"
        return f"{name}:{self.extension}:{self.classifier}" if self.is_archive else name

    @property
    def is_archive(self) -> bool:
        return self.extension != "jar"

    def path(self, cache: Path) -> Path:
        """The file; of an archive the directory of its files."""
        name = f"{self.artifact}-{self.version}"
        return cache / self.group / (name if self.is_archive else f"{name}.jar")

    def is_there(self, cache: Path) -> bool:
        """Whether it is as the lock wants it; what was unpacked got its name when all of it was."""
        path = self.path(cache)
        return path.is_dir() if self.is_archive else is_sound(self, path)


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
        case [group, artifact, version, "tar.gz" as extension, classifier] if len(sha256) == SHA256_DIGITS:
            return Jar(group, artifact, version, sha256, extension, classifier)
    raise ConfigError(f"jars.lock, line {number}: expected group:artifact:version[:extension:classifier] sha256")


def locked_jars(section: Section) -> list[Jar]:
    return parse_lock(files(__package__).joinpath("jars.lock").read_text(encoding="utf-8"))[section]


def jar_paths(section: Section, cache: Path) -> list[Path]:
    return [jar.path(cache) for jar in locked_jars(section)]


def missing_jars(section: Section, cache: Path) -> list[Jar]:
    """The jars that are not in the cache, or not as the lock wants them."""
    return [jar for jar in locked_jars(section) if not jar.is_there(cache)]


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
    if jar.is_archive:
        _unpack(jar, downloaded, target)
    else:
        downloaded.replace(target)


def _unpack(jar: Jar, archive: Path, target: Path) -> None:
    directory = archive.parent / "unpacked"
    try:
        with tarfile.open(archive) as files:
            files.extraction_filter = getattr(tarfile, "data_filter", None)  # the first releases of 3.11 have none
            files.extractall(directory)  # noqa: S202 - its hash is the locked one
        directory.replace(target)
    except (OSError, tarfile.TarError) as exc:
        if not target.is_dir():  # another process was faster
            raise ConfigError(f"{jar} cannot be unpacked: {exc}") from exc


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
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        return Path(component.artifact(jar.classifier, jar.extension).resolve())

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
