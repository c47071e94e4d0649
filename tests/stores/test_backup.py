"""A home becomes one file while others write to it, and a home again, whole or not at all."""

import io
import json
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homes import home_at
from tests.journal.samples import closed, penguin
from timonel.errors import BadRequest, StoreError
from timonel.journal.segments import export
from timonel.settings import Settings
from timonel.stores import backup as module
from timonel.stores.archive import Backup
from timonel.stores.backup import back_up
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.keeping import keeping
from timonel.stores.objects import ObjectStore
from timonel.stores.restore import restore
from timonel.stores.segments import Segments

PACKINGS = ("tar", "tar.gz", "tgz", "tar.zst")


def clock() -> float:
    return 1_795_000_000.0


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """A home with a segment, a text log, a journal file, MLflow's file and an artifact."""
    settings = home_at(tmp_path)
    database = Database.open(settings.database_url)
    objects = ObjectStore.open(settings.objects_url)
    path = closed(settings.journal_folder, "exported", [penguin()])
    export(path, objects, Segments(database), database, text_log={"penguins"})
    database.close()
    closed(settings.journal_folder, "waiting", [penguin()])
    artifacts = settings.root / "mlflow-artifacts"
    (artifacts / "1").mkdir(parents=True)
    (artifacts / "1" / "plot.png").write_bytes(b"picture")
    with sqlite3.connect(settings.root / "mlflow.db") as connection:
        connection.execute("CREATE TABLE runs (artifact_uri TEXT)")
        for place in (artifacts.as_uri(), f"{artifacts.as_uri()}/1", f"{artifacts.as_uri()}-2"):
            connection.execute("INSERT INTO runs VALUES (?)", (place,))
    connection.close()
    (settings.root / "serving").mkdir()
    (settings.root / "serving" / "state.json").write_text("{}")
    return settings


def files_of(folder: Path) -> dict[str, bytes]:
    """What must come back as it was: all but the databases, locks and what can be made again."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder and path.parent.name != "serving"
    }


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_restored_home_is_as_the_one_that_was_backed_up(
    home: Settings, tmp_path: Path, packing: str
) -> None:
    file, target = tmp_path / f"b.{packing}", tmp_path / "other" / "home"
    made = back_up(home, file, clock=clock)
    done = restore(file, target, who="ana", clock=clock)
    assert files_of(target) == files_of(home.root)
    assert (done.files, done.bytes, done.created) == (made.files, made.bytes, clock())
    database = Database.open(f"sqlite:///{target / 'timonel.db'}")
    assert [segment.source for segment in Segments(database).list()] == ["exported"]
    [event] = Events(database).list("home")
    assert (event.after, event.evidence["reason"]) == ("restored", f"restored from {file.name}")
    database.close()
    assert not (target / "serving").exists()
    assert file.stat().st_mode & 0o077 == 0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_mlflow_finds_its_artifacts_in_the_new_home(home: Settings, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b.tar", clock=clock)
    restore(tmp_path / "b.tar", tmp_path / "new", who="ana", clock=clock)
    connection = sqlite3.connect(tmp_path / "new" / "mlflow.db")
    found = [row[0] for row in connection.execute("SELECT artifact_uri FROM runs")]
    connection.close()
    new, old = (tmp_path / "new").as_uri(), home.root.as_uri()
    assert found == [
        f"{new}/mlflow-artifacts",
        f"{new}/mlflow-artifacts/1",
        f"{old}/mlflow-artifacts-2",
    ]


@pytest.fixture
def writing(home: Settings) -> Iterator[None]:
    """Somebody who answers and exports without a pause."""
    stop = threading.Event()
    database = Database.open(home.database_url)
    objects = ObjectStore.open(home.objects_url)

    def write() -> None:
        number = 0
        while not stop.is_set():
            path = closed(home.journal_folder, f"live-{number}", [penguin()] * 3)
            export(path, objects, Segments(database), database, text_log={"penguins"})
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    yield
    stop.set()
    thread.join()
    database.close()


@pytest.mark.usefixtures("writing")
def test_a_backup_under_a_writer_has_every_answer_once(home: Settings, tmp_path: Path) -> None:
    for turn in range(5):
        file, target = tmp_path / f"{turn}.tar", tmp_path / f"home-{turn}"
        back_up(home, file, clock=clock)
        restore(file, target, who="ana", clock=clock)
        settings = Settings(home=target)
        database = Database.open(settings.database_url)
        objects, segments = ObjectStore.open(settings.objects_url), Segments(database)
        for path in sorted(settings.journal_folder.glob("*.closed")):
            export(path, objects, segments, database, text_log={"penguins"})
        found = segments.list()
        rows = sum(segment.rows for segment in found)
        numbers = sorted(int(s.source[5:]) for s in found if s.source.startswith("live-"))
        assert numbers == list(range(len(numbers)))  # none is missing before the last
        assert rows == 2 + 3 * len(numbers)
        assert all(objects.get(segment.object_key) for segment in found)
        log = objects.get("reportes/predicciones_dev.txt").decode()
        assert log.count("\n") == rows
        database.close()


def _repacked(file: Path, out: Path, change: dict[str, bytes | None]) -> Path:
    """A copy of a plain archive with members changed, left out (None) or added."""
    with tarfile.open(file) as old, tarfile.open(out, "w") as new:
        members = {member.name: old.extractfile(member) for member in old}
        contents = {name: content.read() for name, content in members.items() if content}
        for name, data in (contents | change).items():
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))
    return out


@pytest.fixture
def archive(home: Settings, tmp_path: Path) -> Path:
    back_up(home, tmp_path / "b.tar", clock=clock)
    return tmp_path / "b.tar"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"journal/waiting.closed": b"other"}, StoreError, "others: journal/waiting.closed"),
        ({"journal/waiting.closed": None}, StoreError, "others: journal/waiting.closed"),
        ({"manifest.json": None}, StoreError, "one that was cut"),
        ({"manifest.json": b"{"}, StoreError, "a damaged one"),
        ({"backup.json": None}, BadRequest, "another archive"),
        ({"backup.json": b'{"format": 99}'}, BadRequest, "format 1 or older, got 99"),
        ({"../outside": b"x"}, BadRequest, "only a home's files"),
        ({"objects/../../outside": b"x"}, BadRequest, "only a home's files"),
        ({"/tmp/outside": b"x"}, BadRequest, "only a home's files"),
    ],
)
def test_an_archive_that_is_not_right_leaves_no_home(
    archive: Path,
    tmp_path: Path,
    change: dict[str, bytes | None],
    error: type[Exception],
    said: str,
) -> None:
    wrong = _repacked(archive, tmp_path / "wrong.tar", change)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(error, match=said):
        restore(wrong, tmp_path / "new", who="ana", clock=clock)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_cut_archive_is_refused_wherever_it_was_cut(
    home: Settings, tmp_path: Path, packing: str
) -> None:
    file = tmp_path / f"b.{packing}"
    back_up(home, file, clock=clock)
    whole = file.read_bytes()
    end = len(whole) - (10_240 if packing == "tar" else 200)  # a tar ends with empty blocks
    for size in (0, 100, len(whole) // 3, len(whole) // 2, end):
        file.write_bytes(whole[:size])
        with pytest.raises(StoreError):
            restore(file, tmp_path / "new", who="ana", clock=clock)
        assert not (tmp_path / "new").exists()


def test_a_home_with_files_is_kept_unless_told_and_then_moved_aside(
    archive: Path, home: Settings
) -> None:
    before = files_of(home.root)
    with pytest.raises(BadRequest, match="empty home"):
        restore(archive, home.root, who="ana", clock=clock)
    (home.root / "mine.txt").write_text("keep")
    done = restore(archive, home.root, who="ana", clock=clock, replace=True)
    aside = home.root.with_name("home.before-20261118T110640Z")
    assert (aside / "mine.txt").read_text() == "keep"
    assert str(aside) in done.notes[0]
    assert files_of(home.root) == before


def test_a_backup_replaces_no_file_and_a_failed_one_leaves_none(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(home, tmp_path / "b.tar", clock=clock)
    with pytest.raises(BadRequest, match="exists"):
        back_up(home, tmp_path / "b.tar", clock=clock)
    with pytest.raises(BadRequest, match=r"called \.tar"):
        back_up(home, tmp_path / "b.zip", clock=clock)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    before = set(tmp_path.rglob("*"))
    monkeypatch.setattr(module, "_flush", full)
    with pytest.raises(StoreError, match="No space left"):
        back_up(home, tmp_path / "c.tar", clock=clock)
    assert set(tmp_path.rglob("*")) == before


def test_a_damaged_database_is_not_backed_up(home: Settings, tmp_path: Path) -> None:
    file = home.root / "mlflow.db"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="SQLite file"):
        back_up(home, tmp_path / "b.tar", clock=clock)
    with pytest.raises(StoreError, match=r"no timonel\.db"):
        back_up(Settings(home=tmp_path / "none"), tmp_path / "b.tar", clock=clock)
    assert not (tmp_path / "none").exists()


def test_progress_ends_at_the_whole_and_the_manifest_names_all(
    home: Settings, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    made: Backup = back_up(
        home, tmp_path / "b.tar", clock=clock, report=lambda *both: told.append(both)
    )
    assert told[-1] == (made.bytes, made.bytes)
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert (names[0], names[-1]) == ("backup.json", "manifest.json")
    assert sorted(manifest) == sorted(names[1:-1])
    assert len(names) == made.files + 2


def test_nothing_is_deleted_while_a_backup_is_made(tmp_path: Path) -> None:
    done = threading.Event()

    def delete() -> None:
        with keeping(tmp_path, deleting=True):
            done.set()

    with keeping(tmp_path):
        thread = threading.Thread(target=delete)
        thread.start()
        assert not done.wait(0.1)
    thread.join(5)
    assert done.is_set()
