"""Versions made to be tried do what they are made for, and the same each time."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.control.live import Live
from tests.homes import deploy, home_at, penguin_rows, tiny_digits
from timonel.errors import ArtifactError, BadRequest, NotFound
from timonel.project import load_project
from timonel.rollouts import Canary
from timonel.runtime import OnnxModel
from timonel.signature import Signature
from timonel.simulate.challengers import Made, add_challenger, altered
from timonel.stores.artifacts import fetch_version
from timonel.stores.objects import ObjectStore
from timonel.tensors import Arrays


@cache
def champion() -> tuple[bytes, Signature]:
    project, made = load_project("digits"), tiny_digits()
    signature = Signature("digits", "clf", project.columns, "label", tuple(range(10)), made.binding)
    return made.content, signature


def rows(count: int = 300) -> Arrays:
    rng = np.random.default_rng(0)
    return {"pixels": rng.integers(0, 256, (count, 784)).astype(np.float32)}


def one_by_one(model: OnnxModel, arrays: Arrays) -> list[int | None]:
    said: list[int | None] = []
    for n in range(len(arrays["pixels"])):
        try:
            said += model.answer({"pixels": arrays["pixels"][n : n + 1]})[0]
        except ArtifactError:
            said.append(None)
    return said


@pytest.mark.parametrize(("kind", "others"), [("good", 0.0), ("bad", 0.2), ("failing", 0.2)])
def test_a_share_of_the_rows_is_answered_otherwise_always_the_same(
    kind: Made, others: float
) -> None:
    usual = OnnxModel(*champion()).answer(rows())[0]
    made = OnnxModel(*altered(*champion(), kind, share=0.2))
    said = one_by_one(made, rows())
    assert said == one_by_one(made, rows())
    assert np.mean([a != b for a, b in zip(said, usual, strict=True)]) == pytest.approx(
        others, abs=0.08
    )
    assert (None in said) == (kind == "failing")
    if kind != "failing":
        assert made.answer(rows())[0] == said  # together as alone


def test_a_slow_one_takes_much_longer_and_says_the_same() -> None:
    import time

    usual, slow = OnnxModel(*champion()), OnnxModel(*altered(*champion(), "slow"))
    seconds = []
    for model in (usual, slow):
        model.answer(rows(1))
        began = time.perf_counter()
        model.answer(rows(1))
        seconds.append(time.perf_counter() - began)
    assert seconds[1] > 0.01
    assert seconds[1] > 5 * seconds[0]
    assert slow.answer(rows(20))[0] == usual.answer(rows(20))[0]


def test_one_that_was_made_so_can_be_altered_again() -> None:
    usual = OnnxModel(*champion()).answer(rows())[0]
    once = altered(*champion(), "good")
    assert OnnxModel(*altered(*altered(*once, "slow"), "good")).answer(rows())[0] == usual


def test_a_graph_without_scores_is_refused() -> None:
    from dataclasses import replace

    content, signature = champion()
    without = replace(signature, binding=replace(signature.binding, scores=None))
    with pytest.raises(BadRequest, match="with probabilities, got one without"):
        altered(content, without, "bad")


def test_it_is_a_challenger_with_the_next_number(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")
    with pytest.raises(NotFound, match="timonel run penguins"):
        add_challenger(settings, project, "rf", "bad")
    for number in (1, 2):
        deploy(project, settings, number=number, champion=number == 1)
    made = add_challenger(settings, project, "rf", "bad")
    assert (made.number, made.state) == (3, "challenger")
    assert "to be bad" in made.reason
    folder = fetch_version(made.digest, ObjectStore.open(settings.objects_url), tmp_path / "x")
    assert (folder / "sketch.bin").is_file()
    again = add_challenger(settings, project, "rf", "good")
    assert again.number == 4


def test_one_that_fails_when_it_is_scored_again_is_rolled_back_all_the_same(
    tmp_path: Path,
) -> None:
    live = Live(tmp_path, challengers=0)
    add_challenger(live.settings, live.project, "rf", "failing", share=0.5)
    steering = live.steering()
    plan = Canary(steps=(0.5, 1.0), requests=40, seconds=3, longest=600)
    steering.start_waiting({("penguins", "rf"): plan})
    acts: list[str] = []
    for _ in range(20):
        live.traffic(share=0.5, failing=0.5)
        acts += [decision.act for _, decision in steering.tick() if decision.act != "hold"]
        if acts:
            break
    assert acts == ["roll back"]
    assert live.state() == {1: "champion", 2: "rolled_back"}
    live.database.close()


def test_penguins_are_told_apart_too(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")
    version = deploy(project, settings)
    objects = ObjectStore.open(settings.objects_url)
    folder = fetch_version(version.digest, objects, settings.serving_folder)
    content = (folder / "model.onnx").read_bytes()
    signature = Signature.from_json((folder / "signature.json").read_bytes())
    arrays, _ = penguin_rows(400, seed=5)
    usual = OnnxModel(content, signature).answer(arrays)[0]
    bad = OnnxModel(*altered(content, signature, "bad", share=0.3)).answer(arrays)[0]
    assert np.mean(np.array(usual) != np.array(bad)) == pytest.approx(0.3, abs=0.1)
