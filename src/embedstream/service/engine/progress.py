"""How far the loading of a model is, for who asks meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """Written by the thread that loads, read by any."""

    def __init__(self) -> None:
        # One for both, as they are read while they change.
        self._download: tuple[dict[str, Any], Callable[[], int] | None] = ({}, None)
        self.trouble: str | None = None
        """Why the download waits; None where it goes on."""

    def downloads(self, model: str, commit: str, files: int, total_bytes: int, so_far: Callable[[], int]) -> None:
        """From now on; `so_far` says how many bytes have come."""
        what = {"model": model, "hub_commit": commit, "files": files, "total_bytes": total_bytes}
        self._download, self.trouble = (what, so_far), None

    def asks(self, model: str) -> None:
        """The Hub is asked what there is of the model."""
        self._download = ({"model": model}, None)

    def loads(self) -> None:
        """All files are here."""
        self._download, self.trouble = ({}, None), None

    def facts(self) -> dict[str, Any]:
        """`step`, and of a download what is fetched, how far it is, and what it waits for."""
        what, so_far = self._download
        if not what:
            return {"step": "loading"}
        counted = {"bytes": so_far()} if so_far else {}
        return {"step": "downloading", **what, **counted, "trouble": self.trouble}

    def __str__(self) -> str:
        facts = self.facts()
        if facts["step"] == "loading":
            return "the model is being loaded"
        if facts["trouble"]:
            return f"the model is being downloaded, which waits: {facts['trouble']}"
        if "bytes" not in facts:
            return "the model is being downloaded"
        return f"the model is being downloaded: {facts['bytes'] >> 20} of {facts['total_bytes'] >> 20} MiB"
