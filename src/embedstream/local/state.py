"""What a stack leaves on disk for other commands, and for the next `up`: who runs, and where."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from embedstream.errors import ConfigError
from embedstream.local.files import write_whole
from embedstream.local.process import ProcessId

if TYPE_CHECKING:
    from pathlib import Path

PartState = Literal["waiting", "starting", "ready", "restarting", "stopped"]


@dataclass(frozen=True)
class PartRecord:
    name: str
    state: PartState
    address: str
    since: str
    """When it got into this state, in ISO 8601."""
    process: ProcessId | None = None
    reason: str | None = None
    """Why it was last started again, until it is ready."""

    def seen_now(self) -> PartRecord:
        """As recorded, but `stopped` if its process has ended since."""
        if self.process is None or self.process.is_alive():
            return self
        return replace(self, state="stopped", process=None)


@dataclass(frozen=True)
class StackState:
    supervisor: ProcessId | None = None
    since: str | None = None
    parts: tuple[PartRecord, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)
    """The environment variables that lead another command to the stack; no secrets."""

    @property
    def is_running(self) -> bool:
        return self.supervisor is not None and self.supervisor.is_alive()

    @property
    def is_ready(self) -> bool:
        return self.is_running and bool(self.parts) and all(part.seen_now().state == "ready" for part in self.parts)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def state_file(directory: Path) -> Path:
    return directory / "state.json"


def save_state(directory: Path, state: StackState) -> None:
    write_whole(state_file(directory), json.dumps(asdict(state), indent=1) + "\n")


def load_state(directory: Path) -> StackState:
    """An empty one where no stack has been; raises ConfigError if the file is not one that we wrote."""
    path = state_file(directory)
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return StackState()
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path} cannot be read as the state of a stack: {exc}") from exc


def _parse(raw: dict[str, Any]) -> StackState:
    parts = tuple(PartRecord(**{**part, "process": _process(part["process"])}) for part in raw["parts"])
    return StackState(**{**raw, "supervisor": _process(raw["supervisor"]), "parts": parts})


def _process(raw: dict[str, Any] | None) -> ProcessId | None:
    return None if raw is None else ProcessId(**raw)
