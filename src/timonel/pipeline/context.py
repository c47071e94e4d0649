"""What the steps of one run share: the project, the stores, and the data once it is loaded."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from timonel.data import datasets
from timonel.project import Project, Read
from timonel.settings import Settings
from timonel.signature import Label
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.registry import Registry
from timonel.stores.versions import Versions
from timonel.tensors import Arrays, arrays_of_frame

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Context", "Part", "indices"]


@dataclass(frozen=True)
class Part:
    """The rows of one side of the split, as models take them; `y` holds labels."""

    frame: "pl.DataFrame"
    arrays: Arrays
    y: list[Label]

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.frame.height


@dataclass
class Context:
    """One run's project, settings and stores. `clock` gives seconds since 1970."""

    project: Project
    settings: Settings
    database: Database
    objects: ObjectStore
    run_id: str
    clock: Callable[[], float] = time.time
    _parts: dict[tuple[str, str], Part] = field(default_factory=dict)
    _opening: "Future[Registry] | None" = None

    def open_registry(self) -> None:
        """Start to open the registry: MLflow takes seconds that the first steps can use."""
        opening: Future[Registry] = Future()

        def work() -> None:
            try:
                opening.set_result(Registry.open(self.settings.registry_url))
            except BaseException as error:  # noqa: BLE001 (raised again where it is asked for)
                opening.set_exception(error)

        # Not a pool's thread: a run that fails early must not wait for it to end.
        threading.Thread(target=work, name="timonel-registry", daemon=True).start()
        self._opening = opening

    @cached_property
    def registry(self) -> Registry:
        """The registry, once it is open; raises StoreError when it cannot be."""
        if self._opening is None:
            return Registry.open(self.settings.registry_url)
        return self._opening.result()

    @cached_property
    def versions(self) -> Versions:
        """The versions' states."""
        return Versions(self.database)

    def read(self, report: Callable[[str, float | None], None]) -> Read:
        """What the project's source is given."""
        folder = self.settings.data
        return Read(
            folder=folder.expanduser() if folder else None,
            cache=self.settings.cache_folder,
            database=self.settings.database_url,
            report=report,
        )

    def part(self, dataset_key: str, side: str) -> Part:
        """One side of a dataset: train, validation or test."""
        if (dataset_key, side) not in self._parts:
            frame = datasets.load(dataset_key, self.objects)
            for name, group in frame.group_by("split", maintain_order=True):
                self._parts[(dataset_key, str(name[0]))] = self._as_part(group)
            self._parts.setdefault((dataset_key, side), self._as_part(frame.clear()))
        return self._parts[(dataset_key, side)]

    def _as_part(self, frame: "pl.DataFrame") -> Part:
        arrays = arrays_of_frame(self.project.columns, frame)
        return Part(frame, arrays, frame[self.project.target].to_list())

    def classes(self, dataset_key: str) -> tuple[Label, ...]:
        """The declared classes, or those among the training rows, sorted."""
        declared = self.project.labels
        if declared is not None:
            return declared
        return tuple(sorted(set(self.part(dataset_key, "train").y), key=str))


def indices(labels: list[Label], classes: tuple[Label, ...]) -> np.ndarray:
    """Labels as int64 indices into `classes`."""
    place = {label: index for index, label in enumerate(classes)}
    return np.array([place[label] for label in labels], dtype=np.int64)
