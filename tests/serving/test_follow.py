"""A worker's first look at the state, and its following."""

import threading
from pathlib import Path

import pytest

from tests.homes import deploy, home_at
from tests.serving.processes import until
from timonel.project import load_project
from timonel.serving.channel import Serves
from timonel.serving.follow import Follower
from timonel.serving.routing import Routes
from timonel.serving.state import Champion, State, write_state
from timonel.settings import Settings
from timonel.stores.artifacts import fetch_version
from timonel.stores.objects import ObjectStore


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return home_at(tmp_path)


def version(settings: Settings, number: int) -> Champion:
    made = deploy(load_project("penguins"), settings, number=number, seed=number)
    fetch_version(made.digest, ObjectStore.open(settings.objects_url), settings.serving_folder)
    return Champion(made.project, made.model, made.number, made.digest)


def following(settings: Settings) -> tuple[Routes, Follower, list[Serves]]:
    routes, told = Routes([load_project("penguins")], settings.serving_folder), list[Serves]()
    return routes, Follower(routes, settings.serving_folder, told.append), told


def test_the_first_look_loads_what_answers_and_the_next_what_stands_by(settings: Settings) -> None:
    first, second = version(settings, 1), version(settings, 2)
    write_state(settings.serving_folder, State(champions=(second,), standby=(first,)))
    routes, follower, told = following(settings)
    follower.first(20)
    assert routes.loaded() == ("penguins/rf@2",)
    follower.start()
    until(lambda: set(told[-1].loaded) == {"penguins/rf@1", "penguins/rf@2"})
    write_state(settings.serving_folder, State(champions=(first,), standby=(second,)))
    until(lambda: told[-1].labels == ("penguins/rf@1",))
    follower.stop()


def test_the_first_look_loads_what_stands_by_where_a_champion_cannot_be_loaded(
    settings: Settings,
) -> None:
    first, second = version(settings, 1), version(settings, 2)
    (settings.serving_folder / second.digest / "model.onnx").write_bytes(b"bad")
    write_state(settings.serving_folder, State(champions=(second,), standby=(first,)))
    routes, follower, told = following(settings)
    follower.first(20)
    assert routes.labels() == ("penguins/rf@1",)
    assert list(told[-1].failed) == ["penguins/rf@2"]


def test_what_an_earlier_server_told_is_loaded_but_answers_only_once_this_one_said_so(
    settings: Settings,
) -> None:
    first, second = version(settings, 1), version(settings, 2)
    write_state(settings.serving_folder, State(champions=(first,), boot="earlier"))
    routes, follower, _ = following(settings)
    looking = threading.Thread(target=follower.first, args=(20, "this"), daemon=True)
    looking.start()
    until(lambda: routes.loaded() == ("penguins/rf@1",))
    assert looking.is_alive()
    write_state(settings.serving_folder, State(champions=(second,), boot="this"))
    looking.join(20)
    assert not looking.is_alive()
    assert routes.labels() == ("penguins/rf@2",)


def test_a_failure_to_follow_is_logged_and_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    routes, follower, _ = following(settings)
    follower.first(0)  # there is no state yet
    calls: list[State] = []

    def fail(state: State, *, wait: float | None = None) -> None:
        calls.append(state)
        raise RuntimeError("by a test")

    monkeypatch.setattr(routes, "follow", fail)
    write_state(settings.serving_folder, State(degraded=("one",)))
    follower.start()
    until(lambda: len(calls) > 1)
    follower.stop()
    assert "it is tried again" in caplog.text
