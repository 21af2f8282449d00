"""A hub of models on loopback, which speaks what huggingface_hub asks the real one for; and one that misbehaves."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

from embedstream.local.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = 10_000
"""From so many bytes on a file is one of Git's large ones here."""


class Asked(NamedTuple):
    method: str
    path: str
    authorization: str | None
    range: str | None


@dataclass
class Repository:
    """The commits of a model, each with its files; `branches` has branches and tags."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    readers: set[str] | None = None
    """The tokens that may read it; None where anybody may."""
    is_gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        described = json.dumps([[path, hashlib.sha256(data).hexdigest()] for path, data in sorted(files.items())])
        name = hashlib.sha1(f"{len(self.commits)}{described}".encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name


@dataclass
class Hub:
    """What it has and how it behaves may be changed while it runs; `asked` is what came."""

    url: str = ""
    storage: str = ""
    """Another address, which has the large files where it `redirects`."""
    redirects: bool = False
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    """Files that come with a wrong byte."""
    damages_once: bool = False
    cut_after: int | None = None
    """How many bytes of a large file come before the connection ends."""
    fails: int = 0
    """How many requests are still to be answered by 503."""
    tells_commit: bool = True
    has_xet: bool = False
    is_html: bool = False
    waits: threading.Event | None = None
    """What the second half of weights waits for."""

    def publish(self, name: str, source: Path | dict[str, bytes], branch: str = "main") -> str:
        """A new commit of a model; of a directory, all files."""
        files = source if isinstance(source, dict) else files_of(source)
        return self.repositories.setdefault(name, Repository()).commit(files, branch)

    def paths(self, method: str = "GET") -> list[str]:
        return [each.path for each in self.asked if each.method == method]


def files_of(directory: Path) -> dict[str, bytes]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    with _serving(hub) as hub.url, _serving(hub) as hub.storage:
        yield hub


@contextmanager
def _serving(hub: Hub) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer((LOOPBACK, 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        if hub.waits:
            hub.waits.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append(Asked(self.command, path, self.headers["Authorization"], self.headers["Range"]))
        if hub.fails:
            hub.fails -= 1
            self._answer(503)
        elif hub.is_html:
            self._answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path):
            self._api(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path):
            self._file(*found.groups())
        elif found := re.fullmatch(r"/stored/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path):
            name, commit, file = found.groups()
            self._content(file, hub.repositories[name].commits[commit][file])
        else:
            self._answer(404)

    def _api(self, name: str, kind: str, revision: str) -> None:
        repository = self._readable(name)
        if repository is None:
            return
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._answer(404, headers={"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        elif kind == "tree":
            self._json([self._listed(path, data) for path, data in repository.commits[commit].items()])
        else:
            siblings = [{"rfilename": path} for path in repository.commits[commit]]
            self._json({"id": name, "sha": commit, "siblings": siblings})

    def _file(self, name: str, commit: str, path: str) -> None:
        repository = self._readable(name)
        if repository is None:
            return
        data = repository.commits.get(commit, {}).get(path)
        if data is None:
            self._answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        listed = self._listed(path, data)
        own = {"X-Repo-Commit": commit} if self.hub.tells_commit else {}
        etag = f'"{listed.get("lfs", listed)["oid"]}"'
        if self.hub.redirects and "lfs" in listed:
            linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(data))}
            location = f"{self.hub.storage}/stored/{name}/{commit}/{path}"
            self._answer(302, headers={**own, **linked, "Location": location})
        else:
            self._content(path, data, {**own, "ETag": etag})

    def _content(self, path: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        hub, large = self.hub, len(data) >= LARGE
        if path in hub.damaged and self.command == "GET":
            data = bytes([data[0] ^ 1]) + data[1:]
            hub.damaged -= {path} if hub.damages_once else set()
        start = int(re.match(r"bytes=(\d+)-", self.headers["Range"] or "bytes=0-")[1])
        ranged = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if path.endswith(".safetensors") and self.command == "GET" and hub.waits:
            self._begin(200, len(data), headers or {})
            self.wfile.write(data[: len(data) // 2])
            hub.waits.wait(30)
            self.wfile.write(data[len(data) // 2 :])
        elif large and self.command == "GET" and hub.cut_after and len(data) - start > hub.cut_after:
            self._begin(206 if start else 200, len(data) - start, {**(headers or {}), **ranged})
            self.wfile.write(data[start : start + hub.cut_after])
            self.close_connection = True
        else:
            self._answer(206 if start else 200, data[start:], {**(headers or {}), **ranged})

    def _readable(self, name: str) -> Repository | None:
        """None where it is refused, as the real hub does: who may not know of a model is told that there is none."""
        hub, given = self.hub, (self.headers["Authorization"] or "").removeprefix("Bearer ")
        repository = hub.repositories.get(name)
        if given and given not in hub.tokens:
            self._answer(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repository is None or (repository.readers is not None and given not in repository.readers):
            if repository and repository.is_gated:
                self._answer(403 if given else 401, headers={"X-Error-Code": "GatedRepo"})
            else:
                self._answer(404 if given else 401, headers={"X-Error-Code": "RepoNotFound"})
        else:
            return repository
        return None

    def _listed(self, path: str, data: bytes) -> dict[str, object]:
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": oid}
        if len(data) >= LARGE:
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
            if self.hub.has_xet:
                entry["xetHash"] = digest
        return entry

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self._begin(status, len(body), headers or {})
        if self.command == "GET":
            self.wfile.write(body)

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
