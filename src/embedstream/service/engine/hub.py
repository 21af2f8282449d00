"""A model of the Hugging Face Hub, fetched into the Hub's own cache: exact files, whose digests are compared."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import shutil
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if not os.environ.get("HF_ENDPOINT"):  # the library takes an empty one for an address
    os.environ.pop("HF_ENDPOINT", None)

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import disable_progress_bars

import embedstream
from embedstream.errors import ConfigError
from embedstream.retry import Patience
from embedstream.service.engine import hub_files
from embedstream.service.engine.hub_trouble import Asked, HubUnavailable, explained

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from embedstream.service.engine.progress import Progress
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

_ABANDONED_SECONDS = 3600
_UNFINISHED = "*.incomplete"


class Entry(NamedTuple):
    """A file as the Hub lists it; the digests are those of Git and of its large files, None where they are not told."""

    size: int
    git_sha1: str | None
    sha256: str | None


class Snapshot(NamedTuple):
    """A model's files at one commit: `root` is where they are or would be, `needed` those that are fetched."""

    name: str
    root: Path
    listed: dict[str, Entry]
    needed: tuple[str, ...]

    @property
    def commit(self) -> str:
        return self.root.name

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(path for path in self.needed if not (self.root / path).is_file())


def fetch_patiently(settings: Settings, progress: Progress) -> Path:
    """As `fetch`, but trouble of the net is waited out, and said in `progress`."""

    def attempt() -> Path:
        try:
            return fetch(settings, progress).root
        except HubUnavailable as exc:
            progress.trouble = str(exc)
            raise

    return Patience()(attempt)


def fetch(settings: Settings, progress: Progress) -> Snapshot:
    """The model of the settings, with all of its files in the cache.

    Raises ConfigError, and HubUnavailable where the same may go well later.
    """
    library = _Library(settings)
    progress.asks(library.asked.name)
    snapshot = library.look()
    if missing := snapshot.missing:
        library.download(snapshot, missing, progress)
    library.check(snapshot, snapshot.needed)
    progress.loads()
    return snapshot


def look(settings: Settings) -> Snapshot:
    """As `fetch`, of its configuration alone."""
    return _Library(settings).look()


class _Library:
    """The library of the Hub, asked about the model of the settings."""

    def __init__(self, settings: Settings) -> None:
        offline = settings.hf_hub_offline or constants.HF_HUB_OFFLINE
        not_wanted = "EMBEDDING_MODEL_DOWNLOAD=off" if settings.embedding_model_download == "off" else None
        self.asked = Asked(
            name=settings.embedding_model,
            revision=settings.embedding_model_revision,
            endpoint=settings.hf_endpoint or constants.ENDPOINT,
            cache=(settings.embedding_model_cache or Path(constants.HF_HUB_CACHE)).expanduser(),
            has_token=settings.hf_token is not None,
            offline="HF_HUB_OFFLINE" if offline else not_wanted,
        )
        self._token = settings.hf_token.get_secret_value() if settings.hf_token else None
        self._any_network = settings.embedding_engine == "sentence-transformers"
        _settle(settings)

    def look(self) -> Snapshot:
        """What there is of the model, with its configuration in the cache."""
        root = self._fetch([hub_files.MODULES], self.asked.revision)
        found = Snapshot(self.asked.name, root, self._listing(root), ())
        self.check(found, [hub_files.MODULES])
        small = [name for name in (hub_files.MODULES, *hub_files.configuration(root)) if name in found.listed]
        self._fetch(small, root.name)
        self.check(found, small)
        large = hub_files.weights(self.asked.name, root, found.listed, any_network=self._any_network)
        return found._replace(needed=tuple(dict.fromkeys((*small, *large))))

    def download(self, snapshot: Snapshot, names: Sequence[str], progress: Progress) -> None:
        size = sum(snapshot.listed[name].size for name in names)
        self._check_space(size)
        blobs, began = snapshot.root.parents[1] / "blobs", time.time()
        _sweep(blobs)

        def so_far() -> int:
            here = sum(snapshot.listed[name].size for name in names if (snapshot.root / name).is_file())
            return min(size, here + sum(_sizes_since(began, (blobs, self.asked.cache / "blobs"))))

        progress.downloads(self.asked.name, snapshot.commit, len(names), size, so_far)
        facts = {"model": self.asked.name, "hub_commit": snapshot.commit, "files": len(names), "bytes": size}
        logger.info("downloading the model", extra=facts)
        self._fetch(names, snapshot.commit)
        logger.info("downloaded the model", extra={**facts, "seconds": round(time.time() - began, 3)})

    def check(self, snapshot: Snapshot, names: Sequence[str]) -> None:
        """Fetch once more what is here, but not as it is listed; raises ConfigError where that is no better."""
        damaged, remedy = _damaged(snapshot, names), f"check the disk of {self.asked.cache}"
        if damaged and not self.asked.offline:
            logger.warning("fetching again what is damaged: %s", ", ".join(damaged))
            _remove(snapshot, damaged)
            self._fetch(damaged, snapshot.commit)
            damaged = _damaged(snapshot, damaged)
            _remove(snapshot, damaged)
            remedy = f"{self.asked.endpoint} gives out other bytes than it lists, so use another one (HF_ENDPOINT)"
        if damaged:
            raise ConfigError(f"{', '.join(damaged)} of {self.asked} is damaged (another digest): {remedy}")

    def _fetch(self, names: Collection[str], revision: str | None) -> Path:
        """Those of the files that there are."""
        with explained(self.asked):
            return Path(
                snapshot_download(
                    self.asked.name,
                    revision=revision,
                    cache_dir=self.asked.cache,
                    endpoint=self.asked.endpoint,
                    token=self._token,
                    local_files_only=self.asked.offline is not None,
                    allow_patterns=[glob.escape(name) for name in names],
                    library_name="embedstream",
                    library_version=embedstream.__version__,
                )
            )

    def _listing(self, root: Path) -> dict[str, Entry]:
        """The files of the commit, as the library keeps the Hub's list; without one, as the Hub says, or those that
        are here.
        """
        listed = _kept_listing(root)
        if listed is None and self.asked.offline:
            here = (path for path in root.rglob("*") if path.is_file())
            listed = {path.relative_to(root).as_posix(): Entry(path.stat().st_size, None, None) for path in here}
        elif listed is None:
            api = HfApi(self.asked.endpoint, self._token, library_name="embedstream")
            with explained(self.asked):
                tree = list(api.list_repo_tree(self.asked.name, recursive=True, revision=root.name))
            files = [each for each in tree if isinstance(each, RepoFile)]
            listed = {f.path: Entry(f.size, f.blob_id, f.lfs.sha256 if f.lfs else None) for f in files}
        return {path: entry for path, entry in listed.items() if _stays_inside(path)}

    def _check_space(self, size: int) -> None:
        cache = self.asked.cache.absolute()
        free = shutil.disk_usage(next(path for path in (cache, *cache.parents) if path.exists())).free
        if free < size:
            raise ConfigError(
                f"{self.asked} needs {size >> 20} MiB, but {self.asked.cache} has {free >> 20} MiB left: free some, or "
                "set EMBEDDING_MODEL_CACHE to a larger disk"
            )


def _settle(settings: Settings) -> None:
    """Nobody is told that the model is used, no bars are drawn, and mirrors are not asked for Xet, which few have."""
    constants.HF_HUB_DISABLE_TELEMETRY = True
    if settings.hf_endpoint and not os.environ.get("HF_HUB_DISABLE_XET"):
        constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()
    # Its own handler writes what is no JSON, and below it each request would be a line, with what signs its address.
    logging.getLogger("huggingface_hub").handlers.clear()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    hub_logging.enable_propagation()


def _kept_listing(root: Path) -> dict[str, Entry] | None:
    try:
        files = json.loads((root.parents[1] / "trees" / f"{root.name}.json").read_bytes())["files"]
        return {path: Entry(each["size"], each.get("blob_id"), each.get("lfs_sha256")) for path, each in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stays_inside(path: str) -> bool:
    """A list that comes over the net must not have files elsewhere looked at, or removed."""
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


def _damaged(snapshot: Snapshot, names: Sequence[str]) -> list[str]:
    here = (name for name in names if (snapshot.root / name).is_file())
    return [name for name in here if not _is_sound(snapshot.root / name, snapshot.listed[name])]


def _is_sound(path: Path, entry: Entry) -> bool:
    if path.stat().st_size != entry.size:
        return False
    with path.open("rb") as file:
        if entry.sha256:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        if not entry.git_sha1:
            return True
        digest = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)
        digest.update(file.read())
        return digest.hexdigest() == entry.git_sha1


def _remove(snapshot: Snapshot, names: list[str]) -> None:
    for name in names:
        link = snapshot.root / name
        link.resolve().unlink(missing_ok=True)
        link.unlink(missing_ok=True)


def _sweep(blobs: Path) -> None:
    """Downloads that were killed leave what they had, which no other goes on with."""
    for path in blobs.glob(_UNFINISHED):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)


def _sizes_since(began: float, folders: Sequence[Path]) -> Iterator[int]:
    for path in (path for folder in folders for path in folder.rglob(_UNFINISHED)):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        if about.st_mtime >= began:
            yield about.st_size
