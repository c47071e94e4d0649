"""What is too old, or is to be forgotten, goes by a command."""

from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.journal.samples import closed, name_of, penguin
from timonel.journal.segments import export
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

ANA = penguin((39.5, "ana", 2007), (40.5, "ben", 2008))

DEFINITION = """
from pathlib import Path
from pydantic import BaseModel
from timonel import Csv, File, Model, Project, Retention

class Features(BaseModel):
    year: float

project = Project(
    name="penguins", source=Csv(File("rows.csv")), features=Features, target="late",
    models=[Model("m", object)], retention=Retention(segments=3_660 * 86_400),
)
"""


@pytest.fixture
def answered(home: Path) -> Path:
    """A home with three answers of penguins in a segment, and one that waits."""
    database = Database.open(f"sqlite:///{home / 'timonel.db'}")
    path = closed(home / "journal", "a", [ANA, penguin((1.0, "eva", 1))])
    export(path, ObjectStore.open(home / "objects"), Segments(database), database)
    closed(home / "journal", "b", [penguin((2.0, "ana", 2))])
    database.close()
    return home


@pytest.mark.usefixtures("answered")
def test_answers_are_forgotten_by_id_or_key_and_the_rest_is_still_exported(
    timonel: Timonel,
) -> None:
    ended = timonel("journal", "delete", "penguins", "--id", f"{name_of(ANA)}.1")
    assert (ended.code, ended.out) == (
        0,
        "1 rows in 1 segments and 0 labels of penguins were deleted.\n",
    )
    done = timonel("journal", "delete", "penguins", "--key", "island=ana", "--json").json()
    assert (done["rows"], done["segments"], done["datasets"]) == (2, 2, [])
    out = timonel("journal", "export", "penguins", "--format", "csv").out
    assert [line.split(",")[-2] for line in out.splitlines()] == ["island", "eva"]
    assert timonel("events", "penguins/journal", "--json").json()[-1]["after"] == "deleted"


@pytest.mark.usefixtures("answered")
def test_neither_or_both_ways_to_choose_are_refused(timonel: Timonel) -> None:
    assert "neither" in timonel("journal", "delete", "penguins").err
    ended = timonel("journal", "delete", "penguins", "--id", "x", "--key", "year=1")
    assert (ended.code, "both" in ended.err) == (2, True)
    assert timonel("journal", "delete", "walruses", "--key", "year=1").code == 2


@pytest.mark.usefixtures("answered")
def test_what_is_older_than_the_policy_is_pruned(timonel: Timonel) -> None:
    Path("penguins.py").write_text(DEFINITION)
    database = Database.open(f"sqlite:///{Path('../home').resolve() / 'timonel.db'}")
    row = Segments(database).list()[0]
    facts = {**vars(row), "source": "old", "first_time": 1.0, "last_time": 2.0}
    facts.pop("added")
    Segments(database).add(**facts)
    database.close()
    dry = timonel("journal", "prune", "penguins.py", "--dry-run").out.splitlines()
    assert dry == ["project\tsegments\trows\tlabels\tdatasets", "penguins\t1\t3\t0\t0"]
    done = timonel("journal", "prune", "penguins.py", "--json").json()["penguins"]
    assert (done["segments"], done["objects"]) == (1, 0)  # the object is another's as well
    assert len(timonel("journal", "list", "--json").json()) == 1


def test_a_home_without_answers_has_nothing_to_forget(timonel: Timonel, home: Path) -> None:
    ended = timonel("journal", "delete", "penguins", "--key", "year=1")
    assert (ended.code, "nothing was answered" in ended.err) == (2, True)
    assert not home.exists()
