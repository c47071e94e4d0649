"""What workers are told: one small file in the home, written by the supervisor alone.

Workers learn from it which versions serve and what is degraded. It stands between them and the
database, so that no answer, and no start of a worker, waits for the database.
"""

import os
from pathlib import Path

import msgspec

__all__ = ["Champion", "Key", "Progress", "Shift", "State", "read_state", "write_state"]


class Champion(msgspec.Struct, frozen=True):
    """A version that answers or may; its files are in the folder named by its digest."""

    project: str
    model: str
    number: int
    digest: str

    @property
    def label(self) -> str:
        """The version's name, such as `digits/cnn@3`."""
        return f"{self.project}/{self.model}@{self.number}"

    @property
    def key(self) -> tuple[str, str]:
        """Project and model."""
        return self.project, self.model


class Shift(msgspec.Struct, frozen=True):
    """A rollout: a share of the requests that its challenger answers, and one that it sees unseen.

    Shares are 0..1. `sticky` names the HTTP header that a caller is recognised by.
    """

    id: str
    challenger: Champion
    share: float
    mirror: float
    sticky: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a project's run is, for those who wait for its first version."""

    project: str
    run: str
    status: str
    note: str = ""


class Key(msgspec.Struct, frozen=True):
    """A key that callers may show; see `timonel.stores.keys.Key`."""

    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    projects: tuple[str, ...] | None = None
    rate: int | None = None
    expires: float | None = None
    former: str | None = None
    former_until: float | None = None


class State(msgspec.Struct, frozen=True):
    """The whole file.

    `champions` answer; `standby` are loaded and warm beside them: what a rollback goes to, what is
    about to be promoted, and what answers while a champion cannot be loaded. `shifts` move traffic
    to versions of `standby`. `boot` is the server that wrote it, if it did since it began: what
    another left may be out of date.
    """

    champions: tuple[Champion, ...] = ()
    standby: tuple[Champion, ...] = ()
    shifts: tuple[Shift, ...] = ()
    runs: tuple[Progress, ...] = ()
    degraded: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    boot: str = ""


def _path(serving_folder: Path) -> Path:
    return serving_folder / "state.json"


def read_state(serving_folder: Path) -> State | None:
    """The state, or None when none was written yet or it cannot be read."""
    try:
        return msgspec.json.decode(_path(serving_folder).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError):
        return None


def write_state(serving_folder: Path, state: State) -> None:
    """Replace the state as a whole, so that no reader sees half of it; others' users see none."""
    serving_folder.mkdir(parents=True, exist_ok=True)
    draft = serving_folder / f"state.{os.getpid()}.tmp"
    draft.unlink(missing_ok=True)  # one that was left keeps the mode that it was made with
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(state))
    draft.replace(_path(serving_folder))
