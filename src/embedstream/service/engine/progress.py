"""How far the loading of a model is, for who asks meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """Written by the thread that loads, read by any."""

    def __init__(self) -> None:
        self._bytes: Callable[[], int] | None = None
        self._what: dict[str, Any] = {}
        self.trouble: str | None = None
        """Why the download waits; None where it goes on."""

    def downloads(self, model: str, commit: str, files: int, total_bytes: int, so_far: Callable[[], int]) -> None:
        """From now on; `so_far` says how many bytes have come."""
        self._what = {"model": model, "hub_commit": commit, "files": files, "total_bytes": total_bytes}
        self._bytes = so_far

    def asks(self, model: str) -> None:
        """The Hub is asked what there is of the model."""
        self._bytes, self._what = None, {"model": model}

    def loads(self) -> None:
        """All files are here."""
        self._bytes, self._what, self.trouble = None, {}, None

    def facts(self) -> dict[str, Any]:
        """`step`, and of a download what is fetched, how far it is, and what it waits for."""
        if not self._what:
            return {"step": "loading"}
        so_far = {"bytes": self._bytes()} if self._bytes else {}
        return {"step": "downloading", **self._what, **so_far, "trouble": self.trouble}

    def __str__(self) -> str:
        facts = self.facts()
        if facts["step"] == "loading":
            return "the model is being loaded"
        if self.trouble:
            return f"the model is being downloaded, which waits: {self.trouble}"
        if "bytes" not in facts:
            return "the model is being downloaded"
        return f"the model is being downloaded: {facts['bytes'] >> 20} of {facts['total_bytes'] >> 20} MiB"
