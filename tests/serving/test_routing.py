"""Versions are verified before they are loaded, and swapped as a whole."""

import gc
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.homes import deploy, deploy_digits, home_at, penguin_rows
from tests.serving.processes import until
from timonel.errors import ArtifactError, NotReady
from timonel.project import Project, load_project
from timonel.serving.routing import Routes, Served, load_version
from timonel.serving.state import Champion, Progress, State
from timonel.settings import Settings
from timonel.stores.artifacts import fetch_version
from timonel.stores.objects import ObjectStore


@pytest.fixture
def penguins() -> Project:
    return load_project("penguins")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return home_at(tmp_path)


def champion(project: Project, settings: Settings, number: int = 1) -> Champion:
    """A version that is made, and fetched where workers look for it."""
    version = deploy(project, settings, number=number, seed=number)
    objects = ObjectStore.open(settings.objects_url)
    fetch_version(version.digest, objects, settings.serving_folder)
    return Champion(version.project, version.model, version.number, version.digest)


def state(*champions: Champion, runs: Sequence[Progress] = ()) -> State:
    return State(champions=champions, runs=tuple(runs))


def test_a_version_is_loaded_warmed_and_measured(penguins: Project, settings: Settings) -> None:
    chosen = champion(penguins, settings)
    served = load_version(settings.serving_folder / chosen.digest, chosen, penguins)
    assert served.label == "penguins/rf@1"
    assert served.measured.row_seconds > 0
    assert not served.is_quick(10**9)
    arrays, labels = penguin_rows(30, seed=9)
    indices, scores = served.model.predict(arrays)
    assert sum(a == b for a, b in zip(indices.tolist(), labels, strict=True)) >= 25
    assert scores.shape == (30, 3)


@pytest.mark.parametrize("name", ["model.onnx", "signature.json"])
def test_changed_files_are_not_loaded(name: str, penguins: Project, settings: Settings) -> None:
    chosen = champion(penguins, settings)
    file = settings.serving_folder / chosen.digest / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="expected the files of version"):
        load_version(file.parent, chosen, penguins)


def test_a_version_for_other_columns_is_not_loaded(settings: Settings) -> None:
    version = deploy_digits(settings)
    fetch_version(version.digest, ObjectStore.open(settings.objects_url), settings.serving_folder)
    chosen = Champion("penguins", "rf", 1, version.digest)
    folder = settings.serving_folder / version.digest
    with pytest.raises(ArtifactError, match=r"trained with pixels \(image\).*now lacks.*Train"):
        load_version(folder, chosen, load_project("penguins"))


def test_without_a_champion_the_sentence_says_what_to_do_or_how_far_the_run_is(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    with pytest.raises(NotReady) as refused:
        routes.champion("penguins", "rf")
    assert str(refused.value) == ("penguins/rf has no version yet. Train it: timonel run penguins")
    assert refused.value.status == 503
    routes.follow(state(runs=[Progress("penguins", "r7", "running", "step train, 40%")]))
    with pytest.raises(NotReady) as refused:
        routes.champion("penguins", "rf")
    assert str(refused.value) == (
        "penguins/rf has no version yet; run r7 is at step train, 40%. Ask again when it is done."
    )
    assert routes.missing("penguins") == ["rf"]


def test_a_new_champion_takes_over_and_a_request_keeps_the_one_it_had(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    routes.follow(state(champion(penguins, settings, 1)))
    held = routes.champion("penguins", "rf")
    routes.follow(state(champion(penguins, settings, 2)))
    assert routes.champion("penguins", "rf").label == "penguins/rf@2"
    arrays, _ = penguin_rows(1)
    assert held.model.predict(arrays)[0].shape == (1,)
    assert routes.settled()


def test_a_version_that_cannot_be_loaded_leaves_the_former_one_and_says_so(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    first, second = champion(penguins, settings, 1), champion(penguins, settings, 2)
    routes.follow(state(first))
    file = settings.serving_folder / second.digest / "model.onnx"
    good = file.read_bytes()
    file.write_bytes(b"bad")
    for _ in range(2):
        routes.follow(state(second))
        assert routes.champion("penguins", "rf").label == "penguins/rf@1"
        assert not routes.settled()
        assert routes.degraded()[0].startswith("penguins/rf@2 is not served: ")
    file.write_bytes(good)
    routes.follow(state(second))
    assert routes.champion("penguins", "rf").label == "penguins/rf@2"
    assert routes.settled()
    assert routes.degraded() == []


def test_a_version_that_cannot_be_loaded_with_none_before_it_is_explained(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    routes.follow(state(Champion("penguins", "rf", 1, "0" * 64)))
    with pytest.raises(NotReady, match=r"penguins/rf@1 is not served: .* is missing"):
        routes.champion("penguins", "rf")


def test_a_version_that_is_champion_no_longer_stops_answering(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    routes.follow(state(champion(penguins, settings)))
    routes.follow(state())
    with pytest.raises(NotReady):
        routes.champion("penguins", "rf")


def test_champions_of_other_projects_and_models_are_left_alone(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    routes.follow(state(Champion("cats", "rf", 1, "0" * 64), Champion("penguins", "x", 1, "1")))
    assert routes.settled()
    assert routes.degraded() == []


def test_following_on_one_thread_while_others_ask_never_leaves_them_without(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    first, second = champion(penguins, settings, 1), champion(penguins, settings, 2)
    routes.follow(state(first))
    done = threading.Event()
    seen: set[str] = set()

    def ask() -> None:
        while not done.is_set():
            seen.add(routes.champion("penguins", "rf").label)

    asking = threading.Thread(target=ask)
    asking.start()
    for turn in range(20):
        routes.follow(state(second if turn % 2 else first))
    done.set()
    asking.join()
    assert seen <= {"penguins/rf@1", "penguins/rf@2"}
    assert not asking.is_alive()


class Loading:
    """Loads as workers do, but waits at versions whose number is in `held`; notes each attempt."""

    def __init__(self, *held: int) -> None:
        self.held = set(held)
        self.go_on = threading.Event()
        self.tried: list[str] = []

    def __call__(self, folder: Path, chosen: Champion, project: Project) -> Served:
        self.tried.append(chosen.label)
        if chosen.number in self.held:
            assert self.go_on.wait(20)
        return load_version(folder, chosen, project)


def test_a_version_that_loads_slowly_holds_up_neither_the_former_nor_other_models(
    penguins: Project, settings: Settings
) -> None:
    digits, load = load_project("digits"), Loading(2)
    routes = Routes([penguins, digits], settings.serving_folder, load=load)
    told: list[tuple[str, ...]] = []
    routes.changed = lambda: told.append(routes.labels())
    first, second = champion(penguins, settings, 1), champion(penguins, settings, 2)
    routes.follow(state(first))
    other = deploy_digits(settings)
    fetch_version(other.digest, ObjectStore.open(settings.objects_url), settings.serving_folder)
    cnn = Champion("digits", "cnn", 1, other.digest)
    routes.follow(state(second, cnn), wait=0)
    until(lambda: routes.labels() == ("penguins/rf@1", "digits/cnn@1"))
    assert not routes.settled()
    assert routes.why_not("penguins", "rf") == "penguins/rf@2 is being loaded."
    routes.follow(state(first, cnn), wait=0)  # a rollback in the meantime
    assert routes.champion("penguins", "rf").label == "penguins/rf@1"
    routes.follow(state(second, cnn), wait=0)
    load.go_on.set()
    until(lambda: told[-1] == ("penguins/rf@2", "digits/cnn@1"))
    assert load.tried.count("penguins/rf@2") == 1
    assert routes.settled()


def test_what_stands_by_is_loaded_and_answers_at_once_when_it_becomes_champion(
    penguins: Project, settings: Settings
) -> None:
    load = Loading()
    routes = Routes([penguins], settings.serving_folder, load=load)
    first, second = champion(penguins, settings, 1), champion(penguins, settings, 2)
    routes.follow(State(champions=(second,), standby=(first,)))
    assert routes.labels() == ("penguins/rf@2",)
    assert set(routes.loaded()) == {"penguins/rf@1", "penguins/rf@2"}
    routes.follow(State(champions=(first,), standby=(second,)), wait=0)
    assert routes.labels() == ("penguins/rf@1",)
    assert sorted(load.tried) == ["penguins/rf@1", "penguins/rf@2"]


def test_a_new_process_answers_with_what_stands_by_while_the_champion_cannot_be_loaded(
    penguins: Project, settings: Settings
) -> None:
    first, second = champion(penguins, settings, 1), champion(penguins, settings, 2)
    (settings.serving_folder / second.digest / "model.onnx").write_bytes(b"bad")
    routes = Routes([penguins], settings.serving_folder)
    routes.follow(state(second))
    assert routes.unanswered() == ["penguins/rf"]
    routes.follow(State(champions=(second,), standby=(first,)))
    assert routes.labels() == ("penguins/rf@1",)
    assert routes.unanswered() == []
    assert list(routes.failures()) == ["penguins/rf@2"]
    assert routes.degraded()[0].startswith("penguins/rf@2 is not served: ")


def test_a_version_is_freed_when_it_is_not_wanted_and_its_last_request_lets_go(
    penguins: Project, settings: Settings
) -> None:
    routes = Routes([penguins], settings.serving_folder)
    first, second, third = (champion(penguins, settings, number) for number in (1, 2, 3))
    routes.follow(state(first))
    held = routes.champion("penguins", "rf")
    freed = weakref.ref(held.model)
    routes.follow(State(champions=(second,), standby=(first,)))
    routes.follow(State(champions=(third,), standby=(second,)))
    gc.collect()
    assert freed() is not None
    assert held.model.predict(penguin_rows(1)[0])[0].shape == (1,)
    del held
    gc.collect()
    assert freed() is None
    stands_by = weakref.ref(routes._loaded[second].model)
    routes.follow(state(third))
    gc.collect()
    assert stands_by() is None


def test_what_failed_is_tried_again_when_its_files_change_or_after_a_pause(
    penguins: Project, settings: Settings
) -> None:
    now, load = [0.0], Loading()
    routes = Routes([penguins], settings.serving_folder, load=load, clock=lambda: now[0])
    bad = Champion("penguins", "rf", 1, "0" * 64)
    for _ in range(3):
        routes.follow(state(bad))
    assert len(load.tried) == 1
    now[0] += 1.5
    for _ in range(2):
        routes.follow(state(bad))
    assert len(load.tried) == 2
    now[0] += 1.5  # the pause has doubled
    routes.follow(state(bad))
    assert len(load.tried) == 2
    (settings.serving_folder / bad.digest).mkdir(parents=True)
    (settings.serving_folder / bad.digest / "model.onnx").write_bytes(b"bad")
    routes.follow(state(bad))
    assert len(load.tried) == 3
    told: list[dict[str, str]] = []
    routes.changed = lambda: told.append(routes.failures())
    routes.follow(state())
    assert told == [{}]
