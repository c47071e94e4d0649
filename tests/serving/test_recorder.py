"""What was answered, as the journal keeps it."""

import asyncio
import math
import uuid
from pathlib import Path

import numpy as np

from tests.homes import app_of, home_at
from tests.serving.boats import FEMALE, MALE, boat, launch
from timonel.journal.append import Journal
from timonel.journal.records import Reading, Record, image_values, read
from timonel.project import Project, load_project
from timonel.serving.answer import Entry
from timonel.serving.recorder import JournalRecorder
from timonel.serving.routing import Routes, Served
from timonel.serving.rows import RowReader
from timonel.serving.state import read_state
from timonel.settings import Settings


def served(project: Project, settings: Settings) -> list[Served]:
    app_of([project], settings)
    routes, state = Routes([project], settings.serving_folder), read_state(settings.serving_folder)
    assert state is not None
    routes.follow(state)
    return [routes.champion(project.name, model) for model in project.model_names]


def written(folder: Path, *entries: Entry) -> tuple[Reading, list[Record]]:
    async def write() -> None:
        journal = Journal(folder, worker="0", boot="b")
        recorder = JournalRecorder(journal, "prod")
        await asyncio.gather(*(recorder(entry) for entry in entries))
        journal.close()

    asyncio.run(write())
    (file,) = folder.iterdir()
    reading = read(file)
    return reading, list(reading)


def test_rows_answers_and_what_explains_them_are_kept(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), boat(2)
    launch(project, settings)
    versions = served(project, settings)
    reader = RowReader(project, 10)
    rows = [reader.row.model_validate(row) for row in (FEMALE, MALE | {"port": None, "age": None})]
    answers = [
        (version, [1, 0], np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)) for version in versions
    ]
    entry = Entry(
        uuid.UUID(int=5).bytes,
        7,
        project,
        reader.inputs(rows, single=False).values(),
        answers,
        "json",
    )
    reading, records = written(tmp_path / "journal", entry, entry)
    assert sorted(meta.version for meta in reading.metas.values()) == ["boat/m1@1", "boat/m2@1"]
    assert len(records) == 2
    record = records[0]
    assert (record.id, record.time_ns) == (uuid.UUID(int=5).bytes, 7)
    assert (record.via, record.environment) == ("json", "prod")
    assert list(record.rows) == [
        (38.0, "female", "C", "C85", 0, True),
        (None, "male", None, "", 1, False),
    ]
    first = record.answers[0]
    assert (first.model, first.labels) == ("m1", ["saved", "drowned"])
    assert np.frombuffer(first.probabilities, "<f4").tolist() == [0.25, 0.75, 0.5, 0.5]


def test_a_picture_is_kept_as_its_bytes_and_one_with_fractions_exactly(
    home: Settings, tmp_path: Path
) -> None:
    project = load_project("digits")
    version = served(project, home)[0]
    reader = RowReader(project, 10)
    whole = np.arange(784, dtype=np.float32) % 256
    entries = [
        Entry(
            bytes(16),
            1,
            project,
            reader.inputs([reader.of_picture(pixels)], single=True).values(),
            [(version, [3], np.ones((1, 10)))],
            "j",
        )
        for pixels in (whole, whole / 255)
    ]
    reading, records = written(tmp_path, *entries)
    sizes = [len(record.rows[0][0]) for record in records]
    assert sizes == [784, 4 * 784]
    assert image_values(records[0].rows[0][0], 784).tolist() == whole.tolist()
    assert math.isclose(image_values(records[1].rows[0][0], 784).sum(), (whole / 255).sum())
    assert next(iter(reading.metas.values())).text_log
