"""MLflow's marks, our champion and what was mirrored: compared three ways."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.stores.conftest import Clock
from tests.stores.test_marks import _TABLES
from timonel.errors import StoreError
from timonel.project import Model, Project
from timonel.stores.aliases import Aliases, Promotions, Wish, wish_of
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.marks import Marks
from timonel.stores.runs import Runs
from timonel.stores.versions import Versions


class Row(BaseModel):
    x: float


class Nothing:
    def read(self, read: Any) -> Any:
        raise NotImplementedError


PENGUINS = Project(
    name="penguins",
    source=Nothing(),
    features=Row,
    target="y",
    models=[Model("rf", lambda: None, registered="penguins_rf")],
)


class Registry:
    """Where marks were put."""

    def __init__(self) -> None:
        self.marked: list[tuple[str, int | None]] = []

    def mark(self, name: str, number: int | None) -> None:
        self.marked.append((name, number))


@pytest.mark.parametrize(
    ("marks", "champion", "mirrored", "act", "number"),
    [
        (Marks(2, 2, 2), 2, 2, None, None),
        (Marks(), None, None, None, None),
        (Marks(2), 2, 2, None, None),  # a server without stages, or a home from before
        (Marks(5, 2, 2), 2, 2, "adopt", 5),
        (Marks(2, 5, 2), 2, 2, "adopt", 5),
        (Marks(2, 2, 5), 2, 2, "adopt", 5),
        (Marks(None, None, 5), None, None, "adopt", 5),
        (Marks(5, 4, 3), 2, 2, "adopt", 5),
        (Marks(1, 2, 2), 2, 2, "adopt", 1),
        (Marks(2, 2, 2), 3, 2, "put", 3),
        (Marks(2, 2, 2), None, 2, "put", None),
        (Marks(None, 2, 2), 2, 2, "put", 2),
        (Marks(5, 2, 2), 3, 2, "put", 3),  # both changed
        (Marks(3, 3, 3), 3, 2, "put", 3),  # marked, and ended before it was remembered
        (Marks(3, 2, 2), 3, 2, "put", 3),
    ],
)
def test_the_three_are_compared(
    marks: Marks, champion: int | None, mirrored: int | None, act: str | None, number: int | None
) -> None:
    wish = wish_of("p", "m", marks, champion, mirrored)
    assert (wish and wish.act, wish and wish.number) == (act, number)


def test_who_loses_when_both_changed_is_named() -> None:
    assert wish_of("p", "m", Marks(5, 2, 2), 3, 2) == Wish("p", "m", "put", 3, asked=5)


def test_what_marks_were_put_on_is_remembered_with_one_event_a_change(database: Database) -> None:
    aliases, registry = Aliases(database), Registry()
    for number in (1, 1, 2, None):
        aliases.put(registry, PENGUINS, "rf", number, who="run a")  # type: ignore[arg-type]
    assert registry.marked == [("penguins_rf", n) for n in (1, 1, 2, None)]
    assert aliases.mirrored() == {("penguins", "rf"): None}
    events = Events(database).list("penguins/rf")
    assert [(e.kind, e.before, e.after) for e in events] == [
        ("alias", "2", None),
        ("alias", "1", "2"),
        ("alias", None, "1"),
    ]


def test_marks_that_could_not_be_put_are_not_remembered(database: Database) -> None:
    class Down(Registry):
        def mark(self, name: str, number: int | None) -> None:
            raise StoreError("MLflow is away.")

    with pytest.raises(StoreError):
        Aliases(database).put(Down(), PENGUINS, "rf", 1, who="a")  # type: ignore[arg-type]
    assert Aliases(database).mirrored() == {}


Mark = Callable[[int], None]


@pytest.fixture
def registry_file(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_TABLES.partition("INSERT")[0])
    return path


@pytest.fixture
def mark(registry_file: Path) -> Mark:
    def put(number: int) -> None:
        with closing(sqlite3.connect(registry_file)) as connection, connection:
            connection.execute("DELETE FROM registered_model_aliases")
            row = ("champion", number, "penguins_rf")
            connection.execute("INSERT INTO registered_model_aliases VALUES (?, ?, ?)", row)

    return put


def make_champion(database: Database, number: int) -> None:
    versions, names = Versions(database), ("penguins", "rf", number)
    versions.add(*names, digest="d", who="t", reason="r")
    versions.move(*names, "challenger", who="t", reason="r")
    versions.move(*names, "champion", who="t", reason="r")


def test_a_mark_is_noticed_at_the_next_look_and_named_again_after_growing_pauses(
    database: Database, clock: Clock, registry_file: Path, mark: Mark
) -> None:
    promotions = Promotions(database, f"sqlite:///{registry_file}", [PENGUINS])
    assert promotions.check() == []
    mark(4)
    wish = Wish("penguins", "rf", "adopt", 4)
    assert promotions.check() == [wish]
    named = []
    for _ in range(200):
        clock.now += 1
        if promotions.check():
            named.append(clock.now - 1_000)
    assert named == [30, 90]
    mark(5)
    assert promotions.check() == [Wish("penguins", "rf", "adopt", 5)]
    make_champion(database, 5)
    assert promotions.check() == []


def test_a_new_champion_of_ours_has_time_to_be_marked_by_its_own_process(
    database: Database, clock: Clock, registry_file: Path, mark: Mark
) -> None:
    promotions = Promotions(database, f"sqlite:///{registry_file}", [PENGUINS])
    make_champion(database, 1)
    Aliases(database).put(Registry(), PENGUINS, "rf", 1, who="t")  # type: ignore[arg-type]
    mark(1)
    make_champion(database, 2)
    assert promotions.check() == []
    clock.now += 6
    assert promotions.check() == [Wish("penguins", "rf", "put", 2)]


def test_while_a_run_of_the_project_goes_on_nothing_is_asked_for(
    database: Database, clock: Clock, registry_file: Path, mark: Mark
) -> None:
    promotions = Promotions(database, f"sqlite:///{registry_file}", [PENGUINS])
    runs = Runs(database)
    runs.start("penguins", run_id="a", who="t", pid=1, host="h", parameters={})
    mark(4)
    assert promotions.check() == []
    runs.finish("a", status="succeeded", reason="r")
    assert len(promotions.check()) == 1
    # One that ended without a word is no reason to wait for ever.
    runs.start("penguins", run_id="b", who="t", pid=1, host="h", parameters={})
    clock.now += 61
    assert len(promotions.check()) == 1


def test_a_registry_that_was_never_made_has_no_wishes_and_one_that_is_lost_is_an_error(
    database: Database, tmp_path: Path
) -> None:
    promotions = Promotions(database, f"sqlite:///{tmp_path / 'none.db'}", [PENGUINS])
    assert promotions.check() == []
    Aliases(database).put(Registry(), PENGUINS, "rf", 1, who="t")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="could not be read"):
        promotions.check()


@pytest.mark.parametrize("mirrored", [True, False], ids=["mirrored", "from before mirroring"])
def test_a_rollback_is_not_undone_by_the_mark_that_is_still_on_the_former_champion(
    database: Database, clock: Clock, registry_file: Path, mark: Mark, mirrored: bool
) -> None:
    url = f"sqlite:///{registry_file}"
    promotions, aliases, versions = (
        Promotions(database, url, [PENGUINS]),
        Aliases(database),
        Versions(database),
    )
    for number in (1, 2):
        make_champion(database, number)
    mark(2)
    if mirrored:
        registry: Any = Registry()
        aliases.put(registry, PENGUINS, "rf", 2, who="t")
    champion = versions.champion("penguins", "rf")
    aliases.settle(url, "penguins", "rf", champion)
    assert aliases.mirrored() == {("penguins", "rf"): 2}
    versions.roll_back("penguins", "rf", 2, 1, who="t", reason="r")
    asked = []
    for _ in range(30):
        clock.now += 1
        asked += promotions.check()
    assert asked == [Wish("penguins", "rf", "put", 1)]


def test_nothing_is_remembered_of_marks_where_there_is_no_registry_yet(
    database: Database, tmp_path: Path
) -> None:
    aliases = Aliases(database)
    make_champion(database, 1)
    aliases.settle(f"sqlite:///{tmp_path / 'none.db'}", "penguins", "rf", None)
    assert aliases.mirrored() == {}
