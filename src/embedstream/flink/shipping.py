"""The jars that the job needs, and which of them go along with it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from embedstream import jars
from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedstream.settings import Settings

CONNECTOR = "flink-sql-connector-kafka"


def client_jars(home: Path) -> list[str]:
    """The names of what is in the class path of Flink's command line."""
    directory = Path(os.environ.get("FLINK_LIB_DIR") or home / "lib")
    return [path.name for path in directory.glob("*.jar")]


def lacking(*class_paths: Iterable[str]) -> list[jars.Jar]:
    """The jars that have to be shipped, because one of these class paths, file names each, lacks one of them.

    It is all of them or none: what is in a class path of Flink's cannot see what a job brings along.
    """
    wanted = jars.locked_jars("flink")
    complete = all(_has(names, jar.artifact) for names in map(list, class_paths) for jar in wanted)
    return [] if complete else wanted


def _has(names: Iterable[str], artifact: str) -> bool:
    return any(name.startswith(f"{artifact}-") for name in names)


def bundle(wanted: list[jars.Jar], settings: Settings, directory: Path) -> Path:
    """One jar with these in it, where `flink run` finds them: it takes one, and ships what is in its lib/ as well.

    (`pipeline.jars` would take the place of flink-python's jar, and class path entries have to be on each machine.)
    """
    paths = fetched(wanted, settings)
    target = directory / "embedstream-job.jar"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            archive.write(path, f"lib/{path.name}")
    return target


def fetched(wanted: list[jars.Jar], settings: Settings) -> list[Path]:
    """Where these jars are in the cache, after a download where that was due; raises ConfigError where it fails."""
    if not wanted:
        return []
    try:
        cache = jars.cache_directory(settings)
        jars.download([jar for jar in wanted if not jars.is_sound(jar, jar.path(cache))], cache)
    except ImportError as exc:
        raise ConfigError("the Kafka connector cannot be downloaded: pip install 'embedstream[jars]'") from exc
    return [jar.path(cache) for jar in wanted]
