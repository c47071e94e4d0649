"""What workers are told: one small file in the home, written by the supervisor alone.

Workers learn from it which versions serve and what is degraded. It stands between them and the
database, so that no answer, and no start of a worker, waits for the database.
"""

import os
from pathlib import Path

import msgspec

__all__ = ["Champion", "Progress", "State", "read_state", "write_state"]


class Champion(msgspec.Struct, frozen=True):
    """A version that answers; its files are in the folder named by its digest."""

    project: str
    model: str
    number: int
    digest: str

    @property
    def label(self) -> str:
        """The version's name, such as `digits/cnn@3`."""
        return f"{self.project}/{self.model}@{self.number}"


class Progress(msgspec.Struct, frozen=True):
    """How far a project's run is, for those who wait for its first version."""

    project: str
    run: str
    status: str
    note: str = ""


class State(msgspec.Struct, frozen=True):
    """The whole file."""

    champions: tuple[Champion, ...] = ()
    runs: tuple[Progress, ...] = ()
    degraded: tuple[str, ...] = ()


def _path(serving_folder: Path) -> Path:
    return serving_folder / "state.json"


def read_state(serving_folder: Path) -> State | None:
    """The state, or None when none was written yet or it cannot be read."""
    try:
        return msgspec.json.decode(_path(serving_folder).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError):
        return None


def write_state(serving_folder: Path, state: State) -> None:
    """Replace the state as a whole, so that no reader sees half of it."""
    serving_folder.mkdir(parents=True, exist_ok=True)
    draft = serving_folder / f"state.{os.getpid()}.tmp"
    draft.write_bytes(msgspec.json.encode(state))
    draft.replace(_path(serving_folder))
