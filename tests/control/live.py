"""Made-up traffic of two versions of the penguins, in the journal's segments."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.homes import deploy, home_at, penguin_rows
from tests.stores.conftest import Clock
from timonel.control.gather import Gatherer
from timonel.control.steering import Steering
from timonel.ids import Ids
from timonel.journal.records import (
    FORMAT,
    MAGIC,
    SHADOW,
    Answered,
    Feedback,
    Header,
    Meta,
    Record,
    encode,
    frame,
    kinds_of,
)
from timonel.journal.segments import export
from timonel.monitoring.replay import Replay
from timonel.project import load_project
from timonel.stores.database import Database
from timonel.stores.labels import Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.rollouts import Rollouts
from timonel.stores.segments import Segments
from timonel.stores.versions import Versions

__all__ = ["Live"]


class Live:
    """A home with champion 1 and challenger 2, and a clock that the traffic moves."""

    def __init__(self, folder: Path, *, challengers: int = 1) -> None:
        self.clock = Clock(1_795_000_000.0)
        self.settings = home_at(folder)
        self.project = load_project("penguins")
        for number in range(1, challengers + 2):
            deploy(self.project, self.settings, number=number, seed=0, champion=number == 1)
        self.database = Database.open(self.settings.database_url, clock=self.clock)
        self.objects = ObjectStore.open(self.settings.objects_url)
        self.segments, self.labels = Segments(self.database), Labels(self.database)
        self.versions, self.rollouts = Versions(self.database), Rollouts(self.database)
        self._rng = np.random.default_rng(0)
        self._files = 0
        self._ids = Ids(clock_ns=lambda: int(self.clock.now * 1e9))

    def steering(self) -> Steering:
        """A controller's part that knows nothing yet."""
        replay = Replay(self.objects, self.settings.serving_folder)
        return Steering(self.database, Gatherer(self.segments, self.labels, self.objects, replay))

    def state(self) -> dict[int, str]:
        """Each version's state."""
        return {version.number: version.state for version in self.versions.list("penguins")}

    def traffic(
        self,
        count: int = 200,
        *,
        seconds: float = 5.0,
        share: float = 0.0,
        mirror: float = 0.0,
        challenger: int = 2,
        right: tuple[float, float] = (1.0, 1.0),
        failing: float = 0.0,
        slower: float = 1.0,
        labelled: float = 0.0,
        moved: float = 1.0,
    ) -> None:
        """`count` requests over so many seconds, as a segment.

        `share` of them go to the challenger, `mirror` is shown to it. `right` says how often the
        champion and the challenger are; `failing` how often the latter fails, and `slower` how
        much longer it takes. A share `labelled` gets its label. Bills are `moved` times as long.
        """
        arrays, species = penguin_rows(count, seed=self._files)
        arrays["bill_length_mm"] *= np.float32(moved)
        items: list[Meta | Record | Feedback] = [self._meta(1), self._meta(challenger)]
        for n in range(count):
            self.clock.now += seconds / count
            row = tuple(float(values[n]) for values in arrays.values())
            identifier = self._ids().bytes
            live = challenger if self._rng.random() < share else 1
            items.append(self._record(identifier, row, species[n], live, right, failing, slower))
            if self._rng.random() < mirror:
                items.append(
                    self._record(
                        identifier, row, species[n], challenger, right, failing, slower, SHADOW
                    )
                )
            if self._rng.random() < labelled:
                now = int(self.clock.now * 1e9)
                items.append(Feedback(identifier, 0, "penguins", str(species[n]), now))
        self._export(items)

    def _record(
        self,
        identifier: bytes,
        row: Sequence[float],
        species: int,
        number: int,
        right: tuple[float, float],
        failing: float,
        slower: float,
        via: str = "json",
    ) -> Record:
        is_new = number != 1
        seconds = float(self._rng.lognormal(-6, 0.3)) * (slower if is_new else 1.0)
        label = species if self._rng.random() < right[is_new] else (species + 1) % 3
        answer = Answered("rf", f"penguins/rf@{number}", [label], bytes(12))
        if is_new and self._rng.random() < failing:
            answer = Answered("rf", f"penguins/rf@{number}", [], b"", "It broke.")
        now = int(self.clock.now * 1e9)
        return Record(identifier, now, "penguins", [tuple(row)], [answer], via, "dev", seconds)

    def _meta(self, number: int) -> Meta:
        columns = kinds_of(self.project.columns)
        return Meta("penguins", columns, "rf", f"penguins/rf@{number}", (0, 1, 2))

    def _export(self, items: Sequence[Meta | Record | Feedback]) -> None:
        self._files += 1
        folder = self.settings.journal_folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"made-{self._files}.closed"
        header = Header(FORMAT, "boot", "0", int(self.clock.now * 1e9))
        path.write_bytes(MAGIC + b"".join(frame(encode(item)) for item in (header, *items)))
        export(path, self.objects, self.segments, self.database)
