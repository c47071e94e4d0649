"""Features that are kept out of the journal: models get them, and nothing else remembers them."""

import asyncio
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from timonel import Csv, Drift, File, Model, Project, Unrecorded
from timonel.journal.append import Journal
from timonel.journal.records import read
from timonel.schema import columns_of, unrecorded_of
from timonel.serving.answer import Entry
from timonel.serving.recorder import JournalRecorder


class Person(BaseModel):
    """Two features are kept out."""

    age: float
    name: Annotated[str, Unrecorded(), Field(min_length=1)]
    income: Annotated[float, Unrecorded()] | None = None


def _project(drift: Drift | None = None) -> Project:
    return Project(
        name="people",
        source=Csv(File("rows.csv")),
        features=Person,
        target="late",
        models=[Model("m", object)],
        drift=drift or Drift(),
    )


def test_a_field_that_is_kept_out_is_a_column_like_any_other() -> None:
    columns = columns_of(Person)
    assert [(c.name, c.kind, c.nullable) for c in columns] == [
        ("age", "number", False),
        ("name", "category", False),
        ("income", "number", True),
    ]
    assert columns[1].min_length == 1
    assert unrecorded_of(Person) == ("name", "income")


@pytest.mark.parametrize("given", [(), ("income",), ("age",)])
def test_a_field_that_is_kept_out_never_alarms_as_drift(given: tuple[str, ...]) -> None:
    project = _project(Drift(exclude=given))
    assert set(project.drift.exclude) == {"name", "income", *given}
    assert len(project.drift.exclude) == len(set(project.drift.exclude))


def test_the_record_of_an_answer_has_it_missing(tmp_path: Path) -> None:
    project = _project()
    rows = [(30.0, "Ana", 1_000.0), (40.0, "Ben", None)]
    entry = Entry(bytes(16), 7, project, rows, [], "json")

    async def write() -> None:
        journal = Journal(tmp_path / "journal", worker="0", boot="b")
        await JournalRecorder(journal, "dev")(entry)
        journal.close()

    asyncio.run(write())
    [file] = (tmp_path / "journal").iterdir()
    [record] = list(read(file))
    assert list(record.rows) == [(30.0, None, None), (40.0, None, None)]
    assert b"Ana" not in file.read_bytes()
