"""From predictions over labels to accuracy and a dataset, across rotation, restarts and kills."""

import shutil
import time
from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, home_at, penguin_rows
from timonel.journal.segments import adopt, export
from timonel.monitoring.collect import collected
from timonel.monitoring.live import Live, live
from timonel.project import Project, load_project
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.labels import Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

FEW, MANY = 40, 60


class Journey:
    """A home of the penguins: workers come and go, and the supervisor exports."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = home_at(folder, journal_rotate_bytes=4_096)
        self.project: Project = load_project("penguins")
        deploy(self.project, self.settings)
        self.database = Database.open(self.settings.database_url)
        self.objects = ObjectStore.open(self.settings.objects_url)
        self.segments, self.labels = Segments(self.database), Labels(self.database)
        self.began = time.time() - 1

    def worker(self) -> TestClient:
        return TestClient(app_of([self.project], self.settings, at_root=True))

    def export(self, *, killed: bool = False) -> int:
        """Export all that can be; killed before it deletes, the supervisor does it again."""
        paths = adopt(self.settings.journal_folder)
        for path in paths:
            copy = shutil.copy(path, self.settings.root / "copy")
            export(path, self.objects, self.segments, self.database)
            if killed:
                shutil.move(copy, path)
                export(path, self.objects, self.segments, self.database)
        return len(paths)

    def live(self) -> Live:
        return live(
            self.segments, self.labels, self.objects, "penguins", "rf",
            since=self.began, until=time.time() + 1,
        )  # fmt: skip


@pytest.fixture
def journey(tmp_path: Path) -> Journey:
    return Journey(tmp_path)


def test_labels_find_their_predictions_whatever_happened_in_between(journey: Journey) -> None:
    arrays, species = penguin_rows(FEW + MANY, seed=5)
    frame = pl.DataFrame({name: values.tolist() for name, values in arrays.items()})
    with journey.worker() as worker:
        ids = [
            worker.post("/predict", json=row).headers["x-prediction-id"]
            for row in frame[:FEW].iter_rows(named=True)
        ]
        table = worker.post(
            "/predict", content=frame[FEW:].write_csv(), headers={"Content-Type": "text/csv"}
        ).content
        answers = pl.read_csv(table)
        # Some labels come at once, to the worker that answered, before anything was exported.
        first = [{"id": ids[n], "label": species[n]} for n in range(10)]
        assert worker.post("/feedback", json=first).status_code == 202
    assert journey.export(killed=True) > 1  # rotated many times
    found = journey.live()
    assert [(w.rows, w.labelled) for w in found.windows] == [(FEW + MANY, 10)]

    with journey.worker() as worker:  # another process, later
        truth = answers.select("id", label=pl.Series(species[FEW:])).write_csv()
        for _ in range(2):
            reply = worker.post("/feedback", files={"file": ("truth.csv", truth.encode())})
            assert reply.json()["recorded"] == MANY
        rest = [{"id": ids[n], "label": species[n]} for n in range(FEW)]
        unknown = {"id": f"{ids[0]}.7", "label": 1}
        assert worker.post("/feedback", json=[*reversed(rest), unknown]).status_code == 202
    journey.export(killed=True)

    found = journey.live()
    (window,) = found.windows
    assert (found.labels, found.unknown) == (FEW + MANY + 1, 1)
    assert (window.version, window.rows, window.labelled) == ("penguins/rf@1", 100, 100)
    told = [*(worker_said(journey, name) for name in ids), *answers["prediction"].to_list()]
    right = sum(a == b for a, b in zip(told, species, strict=True))
    assert window.accuracy is not None
    assert window.accuracy.value == right / 100
    assert {label: one.rows for label, one in window.recalls.items()} == {
        str(label): species.count(label) for label in (0, 1, 2)
    }

    kept = collected(journey.project, journey.segments, journey.labels, journey.objects)
    assert (kept.rows, kept.unknown, kept.report.refused) == (100, 1, 0)
    expected = frame.with_columns(species=pl.Series(species, dtype=pl.Int64))
    key = frame.columns
    assert kept.frame.sort(key).select(key[0]).to_series().to_list() == pytest.approx(
        expected.sort(key)[key[0]].to_list(), rel=1e-6
    )
    assert kept.frame.sort(key)["species"].to_list() == expected.sort(key)["species"].to_list()
    again = collected(journey.project, journey.segments, journey.labels, journey.objects)
    assert again.key == kept.key


def worker_said(journey: Journey, identifier: str) -> int:
    """What the journal's segments say was answered."""
    for segment in journey.segments.holding("penguins", identifier, identifier):
        file = Path(journey.settings.root, "objects", segment.object_key)
        rows = pl.read_parquet(file).filter(pl.col("id") == identifier)
        if len(rows):
            return int(rows["prediction"][0])
    raise LookupError(identifier)


def test_a_label_corrected_elsewhere_counts_once_the_later_way(journey: Journey) -> None:
    row = {"bill_length_mm": 39, "bill_depth_mm": 18, "flipper_length_mm": 181, "body_mass_g": 3750}
    with journey.worker() as one, journey.worker() as other:
        prediction = one.post("/predict", json=row).headers["x-prediction-id"]
        for worker, label in ((one, 2), (other, 1), (one, 0)):
            assert worker.post("/feedback", json={"id": prediction, "label": label}).is_success
    journey.export()
    (kept,) = journey.labels.between("penguins", prediction, prediction)
    assert kept.label == "0"
    assert journey.live().labels == 1
