"""What the supervisor keeps up beside the workers."""

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.homes import deploy, deploy_digits, home_at
from tests.serving.processes import until
from timonel.journal.append import Journal
from timonel.journal.records import Answered, Meta, Record, encode
from timonel.project import Model, Project, load_project
from timonel.serving.state import Progress, State, read_state, write_state
from timonel.serving.upkeep import Upkeep
from timonel.settings import Settings
from timonel.stores.artifacts import fetch_version
from timonel.stores.database import Database
from timonel.stores.keys import Keys
from timonel.stores.objects import ObjectStore
from timonel.stores.runs import Runs
from timonel.stores.segments import Segments
from timonel.stores.versions import Versions


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return home_at(tmp_path)


@pytest.fixture
def penguins() -> Project:
    return load_project("penguins")


def told(settings: Settings) -> State:
    state = read_state(settings.serving_folder)
    assert state is not None
    return state


def following(settings: Settings, *projects: Project) -> Upkeep:
    settings.serving_folder.mkdir(parents=True, exist_ok=True)
    return Upkeep(settings, projects)


def test_a_champion_is_fetched_and_told(settings: Settings, penguins: Project) -> None:
    version = deploy(penguins, settings)
    upkeep = following(settings, penguins)
    upkeep.follow()
    assert [champion.label for champion in told(settings).champions] == ["penguins/rf@1"]
    assert (settings.serving_folder / version.digest / "model.onnx").is_file()
    assert upkeep.state == told(settings)


def test_a_first_start_knows_no_champion_and_says_how_far_the_run_is(
    settings: Settings, penguins: Project
) -> None:
    upkeep = following(settings, penguins)
    upkeep.follow()
    upkeep.start()
    try:
        assert told(settings) == State()
        runs = Runs(Database.open(settings.database_url))
        runs.start("penguins", run_id="r1", who="test", pid=1, host="elsewhere", parameters={})
        until(lambda: bool(told(settings).runs))
        assert told(settings).runs[0].note == "its start"
        runs.step("r1", "train", status="running", share=0.4)
        until(lambda: told(settings).runs[0].note == "step train, 40%")
        runs.finish("r1", status="succeeded", reason="done")
        until(lambda: told(settings).runs[0] == Progress("penguins", "r1", "succeeded", "done"))
    finally:
        upkeep.stop()


def test_what_is_told_bears_the_servers_name_once_all_of_it_is_known(
    settings: Settings, penguins: Project
) -> None:
    settings.serving_folder.mkdir(parents=True, exist_ok=True)
    write_state(settings.serving_folder, State(boot="earlier"))
    upkeep = Upkeep(settings, [penguins], boot="this")
    deploy(penguins, settings)
    upkeep.follow()
    assert told(settings).boot == "earlier"
    upkeep.start()
    try:
        assert told(settings).boot == "this"
        deploy(penguins, settings, number=2)
        until(lambda: [c.number for c in told(settings).champions] == [2])
        assert told(settings).boot == "this"
    finally:
        upkeep.stop()


def test_a_run_whose_process_was_killed_is_not_waited_for(
    settings: Settings, penguins: Project
) -> None:
    runs = Runs(Database.open(settings.database_url))
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = socket.gethostname()
    runs.start("penguins", run_id="r1", who="test", pid=ended.pid, host=here, parameters={})
    upkeep = following(settings, penguins)
    upkeep.follow()
    assert upkeep.state.runs == (Progress("penguins", "r1", "failed", "its process ended"),)


def test_a_version_that_ships_with_a_project_serves_until_there_is_another(
    settings: Settings, tmp_path: Path
) -> None:
    made = home_at(tmp_path / "made")
    deploy_digits(made)
    digits = shipping(load_project("digits"), made.root / "made" / "digits-cnn-1")
    following(settings, digits).follow()
    assert [champion.label for champion in told(settings).champions] == ["digits/cnn@0"]
    following(settings, digits).follow()
    deploy_digits(settings, number=4)
    following(settings, digits).follow()
    assert [champion.label for champion in told(settings).champions] == ["digits/cnn@4"]
    versions = Versions(Database.open(settings.database_url))
    versions.move("digits", "cnn", 4, "rolled_back", who="test", reason="a test")
    following(settings, digits).follow()
    assert versions.get("digits", "cnn", 0).state == "retired"


@pytest.mark.parametrize("state", ["candidate", "challenger"])
def test_a_start_that_was_killed_half_way_is_completed(
    state: str, settings: Settings, tmp_path: Path
) -> None:
    made = home_at(tmp_path / "made")
    version = deploy_digits(made)
    digits = shipping(load_project("digits"), made.root / "made" / "digits-cnn-1")
    following(settings, digits)
    versions = Versions(Database.open(settings.database_url))
    versions.add("digits", "cnn", 0, digest=version.digest, who="package", reason="a test")
    if state == "challenger":
        versions.move("digits", "cnn", 0, "challenger", who="package", reason="a test")
    deploy_files(digits, settings)
    following(settings, digits).follow()
    assert [champion.label for champion in told(settings).champions] == ["digits/cnn@0"]


def test_a_shipped_version_that_is_missing_holds_up_nothing_else(
    settings: Settings, penguins: Project, tmp_path: Path
) -> None:
    deploy(penguins, settings)
    digits = shipping(load_project("digits"), tmp_path / "nowhere")
    following(settings, digits, penguins).follow()
    state = told(settings)
    assert [champion.label for champion in state.champions] == ["penguins/rf@1"]
    assert state.degraded[0].startswith("digits/cnn ships no usable version: ")


def test_a_version_that_cannot_be_fetched_leaves_the_former_and_the_others(
    settings: Settings, penguins: Project
) -> None:
    deploy(penguins, settings)
    upkeep = following(settings, penguins)
    upkeep.follow()
    bad = deploy(penguins, settings, number=2, seed=2)
    deploy_digits(settings)
    (settings.root / "objects" / "versions" / f"{bad.digest}.json").unlink()
    upkeep.follow()
    state = told(settings)
    assert {champion.label for champion in state.champions} == {"penguins/rf@1", "digits/cnn@1"}
    assert state.degraded[0].startswith("penguins/rf@2 cannot be fetched: ")


def test_changed_and_lost_copies_are_fetched_anew(settings: Settings, penguins: Project) -> None:
    version = deploy(penguins, settings)
    upkeep = following(settings, penguins)
    upkeep.follow()
    folder = settings.serving_folder / version.digest
    content = (folder / "model.onnx").read_bytes()
    for spoil in spoilers(folder):
        spoil()
        upkeep.follow()
        assert (folder / "model.onnx").read_bytes() == content
    assert not list(settings.serving_folder.glob("fetch-*"))


def test_the_last_known_versions_answer_when_the_database_cannot_be_opened(
    settings: Settings, penguins: Project
) -> None:
    deploy(penguins, settings)
    following(settings, penguins).follow()
    known = told(settings)
    away = settings.model_copy(update={"database": "sqlite:////proc/nowhere/timonel.db"})
    upkeep = following(away, penguins)
    upkeep.follow()
    assert told(settings).champions == known.champions
    assert told(settings).degraded[0].startswith("The last known versions answer: ")


def test_a_database_that_is_gone_is_not_made_anew(settings: Settings, penguins: Project) -> None:
    deploy(penguins, settings)
    upkeep = following(settings, penguins)
    upkeep.follow()
    file = settings.root / "timonel.db"
    file.rename(file.with_suffix(".kept"))
    upkeep.follow()
    assert not file.exists()
    assert [champion.label for champion in told(settings).champions] == ["penguins/rf@1"]
    assert "got no such file" in told(settings).degraded[0]
    file.with_suffix(".kept").rename(file)
    upkeep.follow()
    assert told(settings).degraded == ()


def test_the_journal_is_exported_when_it_can_be(settings: Settings, penguins: Project) -> None:
    asyncio.run(journal(settings.journal_folder, 3))
    blocked = settings.model_copy(update={"objects": "file:///proc/nowhere"})
    upkeep = following(blocked, penguins)
    upkeep.export_journal()
    upkeep.follow()
    assert any("The journal waits to be exported" in s for s in told(settings).degraded)
    upkeep = following(settings, penguins)
    upkeep.export_journal()
    upkeep.follow()
    assert told(settings).degraded == ()
    listed = Segments(Database.open(settings.database_url)).list("penguins")
    assert [segment.rows for segment in listed] == [3]
    assert list(settings.journal_folder.iterdir()) == []


def test_stopping_exports_what_the_workers_left(settings: Settings, penguins: Project) -> None:
    upkeep = following(settings, penguins)
    upkeep.start()
    asyncio.run(journal(settings.journal_folder, 2))
    upkeep.stop()
    listed = Segments(Database.open(settings.database_url)).list("penguins")
    assert sum(segment.rows for segment in listed) == 2


def test_a_failure_of_what_is_kept_up_is_logged_and_tried_again(
    settings: Settings,
    penguins: Project,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upkeep = following(settings, penguins)
    upkeep.start()
    calls: list[float] = []

    def fail(*given: Any) -> Any:
        calls.append(time.monotonic())
        raise RuntimeError("by a test")

    monkeypatch.setattr("timonel.serving.upkeep.Runs", fail)
    until(lambda: len(calls) > 2)
    monkeypatch.undo()
    deploy(penguins, settings)
    until(lambda: bool(told(settings).champions))
    upkeep.stop()
    assert "Upkeep failed; it is tried again" in caplog.text


def shipping(project: Project, folder: Path) -> Project:
    fields = {name: getattr(project, name) for name in project.__dataclass_fields__}
    models = [
        Model("cnn", project.models[0].recipe, embedded=folder),
        Model("clf", project.models[1].recipe),
    ]
    return Project(**{**fields, "models": models})


def deploy_files(project: Project, settings: Settings) -> None:
    """Put what a project ships with into the store, as the start did before it was killed."""
    from timonel.stores.artifacts import save_version

    embedded = project.models[0].embedded
    assert embedded is not None
    digest = save_version(embedded, ObjectStore.open(settings.objects_url))
    fetch_version(digest, ObjectStore.open(settings.objects_url), settings.serving_folder)


def spoilers(folder: Path) -> list[Callable[[], Any]]:
    import shutil

    return [
        lambda: (folder / "model.onnx").write_bytes(b"bad"),
        (folder / "model.onnx").unlink,
        lambda: (folder / "signature.json").write_bytes(b"{}"),
        lambda: shutil.rmtree(folder),
    ]


async def journal(folder: Path, records: int) -> None:
    from timonel.ids import Ids

    columns = (("bill_length_mm", "number"),)
    meta = Meta("penguins", columns, "rf", "penguins/rf@1", (0, 1, 2))  # type: ignore[arg-type]
    writer, ids = Journal(folder, worker="0", boot="b", meta=[meta]), Ids()
    for _ in range(records):
        answer = Answered("rf", "penguins/rf@1", [0], b"")
        now = time.time_ns()
        record = Record(ids().bytes, now, "penguins", [(1.5,)], [answer], "json", "dev")
        await writer.append(encode(record))
    writer.close()


def test_a_state_that_did_not_change_is_not_written_again(
    settings: Settings, penguins: Project
) -> None:
    write_state(settings.serving_folder, State())
    upkeep = following(settings, penguins)
    file = settings.serving_folder / "state.json"
    before = file.stat().st_mtime_ns
    upkeep.follow()
    assert file.stat().st_mtime_ns == before


def test_the_version_before_stands_by_and_so_does_a_challenger(
    settings: Settings, penguins: Project
) -> None:
    for number in (1, 2, 3):
        deploy(penguins, settings, number=number, seed=number)
    upkeep = following(settings, penguins)
    upkeep.follow()
    assert labels(told(settings)) == (["penguins/rf@3"], ["penguins/rf@2"])
    versions = Versions(Database.open(settings.database_url))
    versions.move("penguins", "rf", 1, "challenger", who="test", reason="a test")
    upkeep.follow()
    assert labels(told(settings)) == (["penguins/rf@3"], ["penguins/rf@1", "penguins/rf@2"])
    versions.roll_back("penguins", "rf", 3, 2, who="test", reason="a test")
    versions.move("penguins", "rf", 1, "champion", who="test", reason="a test")
    upkeep.follow()
    assert labels(told(settings)) == (["penguins/rf@1"], ["penguins/rf@2"])
    assert upkeep.swaps == {("penguins", "rf", "rollback"): 1}


def test_what_answers_last_stands_by_until_a_champion_does(
    settings: Settings, penguins: Project
) -> None:
    routed = {"penguins/rf@1"}
    deploy(penguins, settings)
    settings.serving_folder.mkdir(parents=True)
    upkeep = Upkeep(settings, [penguins], routed=lambda: routed)
    upkeep.follow()
    for number in (2, 3):  # neither of which any worker can load
        deploy(penguins, settings, number=number, seed=number)
        upkeep.follow()
    assert labels(told(settings)) == (["penguins/rf@3"], ["penguins/rf@2", "penguins/rf@1"])
    routed.clear()  # all workers are gone
    upkeep.follow()
    restarted = Upkeep(settings, [penguins], routed=lambda: routed)
    restarted.follow()
    assert labels(told(settings)) == (["penguins/rf@3"], ["penguins/rf@2", "penguins/rf@1"])
    deploy(penguins, settings, number=4, seed=4)
    routed.add("penguins/rf@4")
    for _ in range(2):
        restarted.follow()
    assert labels(told(settings)) == (["penguins/rf@4"], ["penguins/rf@3"])
    assert restarted.swaps == {("penguins", "rf", "promote"): 1}


def test_a_version_that_is_fetched_slowly_holds_up_neither_the_former_nor_other_models(
    settings: Settings, penguins: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(penguins, settings)
    upkeep = following(settings, penguins)
    upkeep.follow()
    slow = deploy(penguins, settings, number=2, seed=2)
    deploy_digits(settings)
    arrive = threading.Event()

    def fetch(digest: str, *given: Any) -> Path:
        assert digest != slow.digest or arrive.wait(20)
        return fetch_version(digest, *given)

    monkeypatch.setattr("timonel.serving.upkeep.fetch_version", fetch)

    def followed() -> list[str]:
        upkeep.follow(0.05)
        return labels(told(settings))[0]

    until(lambda: len(followed()) == 2)
    assert labels(told(settings)) == (["digits/cnn@1", "penguins/rf@1"], [])
    assert told(settings).degraded == ()
    arrive.set()
    until(lambda: "penguins/rf@2" in followed())
    assert labels(told(settings))[1] == ["penguins/rf@1"]


def test_copies_that_are_not_told_go_after_an_hour(settings: Settings, penguins: Project) -> None:
    first, second, third = (
        deploy(penguins, settings, number=number, seed=number).digest for number in (1, 2, 3)
    )
    fetch_version(first, ObjectStore.open(settings.objects_url), settings.serving_folder)
    now = [time.time()]
    upkeep = Upkeep(settings, [penguins], clock=lambda: now[0])
    upkeep.follow()
    for seconds, kept in ((0, {first, second, third}), (4_000, {second, third})):
        now[0] += seconds
        upkeep.prune()
        assert {entry.name for entry in settings.serving_folder.iterdir()} - {"state.json"} == kept
    versions = Versions(Database.open(settings.database_url))
    versions.move("penguins", "rf", 1, "champion", who="test", reason="a test")
    upkeep.follow()
    assert (settings.serving_folder / first / "model.onnx").is_file()


def labels(state: State) -> tuple[list[str], list[str]]:
    """What answers and what stands by."""
    return [c.label for c in state.champions], [c.label for c in state.standby]


def test_workers_are_told_the_keys_that_are_valid_and_keep_them_without_the_database(
    settings: Settings, penguins: Project
) -> None:
    database = Database.open(settings.database_url)
    keys = Keys(database)
    made, token = keys.create("shop", who="test", projects=["penguins"], rate=60)
    upkeep = following(settings, penguins)
    upkeep.follow_keys()
    [key] = told(settings).keys
    assert (key.id, key.digest, key.scopes) == (made.id, made.digest, ("predict",))
    assert (key.projects, key.rate) == (("penguins",), 60)
    assert token not in (settings.serving_folder / "state.json").read_text()
    upkeep.follow()
    assert told(settings).keys == (key,)
    database.close()

    file = settings.root / "timonel.db"
    file.rename(file.with_suffix(".away"))
    upkeep.follow_keys()
    upkeep.follow()
    assert told(settings).keys == (key,)
    file.with_suffix(".away").rename(file)

    keys.revoke("shop", who="test")
    upkeep.follow_keys()
    assert told(settings).keys == ()
