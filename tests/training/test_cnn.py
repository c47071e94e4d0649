"""The small network learns shapes, and its ONNX file takes raw pixels."""

import gzip
import struct
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from timonel.errors import DefinitionError, MissingExtra, SourceError
from timonel.training.augment import Augment
from timonel.training.cnn import fit, main

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs timonel[torch]")


def shapes(count: int, side: int = 20) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Upright bars (0), level bars (1) and squares (2), somewhere in the picture."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    pictures = np.zeros((count, side, side), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        top, left = rng.integers(2, side - 12, 2)
        height, width = ((10, 3), (3, 10), (8, 8))[label]
        picture[top : top + height, left : left + width] = 255
    return pictures, labels


def answers(model: bytes, pictures: NDArray[np.uint8]) -> list[NDArray[Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model)
    pixels = pictures.reshape(len(pictures), -1).astype(np.float32)
    found: list[NDArray[Any]] = session.run(["label", "probabilities"], {"pixels": pixels})
    return found


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


@needs_torch
def test_it_learns_and_answers_raw_pixels_in_batches_of_any_size() -> None:
    pictures, labels = shapes(600)
    epochs: list[tuple[int, int, float]] = []
    model = fit(
        pictures,
        labels,
        classes=3,
        seed=0,
        epochs=10,
        augment=Augment(shape=(20, 20)),
        progress=lambda *epoch: epochs.append(epoch),
    )
    label, probabilities = answers(model, pictures)
    assert (label == labels).mean() > 0.95
    assert label.dtype == np.int64
    assert probabilities.shape == (600, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    one, _ = answers(model, pictures[:1])
    assert list(one) == list(label[:1])
    assert [epoch[:2] for epoch in epochs] == [(n, 10) for n in range(1, 11)]
    assert epochs[-1][2] < epochs[0][2]


@needs_torch
def test_the_file_is_plain_onnx_with_batch_norm_folded_away() -> None:
    onnx = pytest.importorskip("onnx")
    pictures, labels = shapes(64)
    model = onnx.load_from_string(fit(pictures, labels, classes=3, seed=0, epochs=1))
    onnx.checker.check_model(model)
    assert [entry.name for entry in model.graph.input] == ["pixels"]
    assert [entry.name for entry in model.graph.output] == ["label", "probabilities"]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


@needs_torch
def test_the_same_seed_gives_the_same_file() -> None:
    pictures, labels = shapes(64)
    first, again, other = (
        fit(pictures, labels, classes=3, seed=seed, epochs=1) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@needs_torch
def test_training_leaves_the_callers_randomness_alone() -> None:
    import torch as library

    library.manual_seed(5)
    expected = library.rand(1)
    library.manual_seed(5)
    fit(*shapes(64), classes=3, seed=0, epochs=1)
    assert library.equal(library.rand(1), expected)


@needs_torch
def test_minutes_cut_the_plan_to_what_fits() -> None:
    ticks = iter([0.0, 30.0])
    planned: list[int] = []
    fit(
        *shapes(64),
        classes=3,
        seed=0,
        epochs=50,
        minutes=1.5,
        clock=lambda: next(ticks),
        progress=lambda *epoch: planned.append(epoch[1]),
    )
    assert planned == [3, 3, 3]


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        (np.zeros((4, 8, 8), np.uint8), np.zeros(4), "20x20 or more"),
        (np.zeros((4, 28, 28)), np.zeros(4), "uint8"),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0), "at least one"),
        (np.zeros((4, 28, 28), np.uint8), np.zeros(3), "one label for each"),
        (np.zeros((4, 28, 28), np.uint8), np.full(4, 3), "labels 0..2"),
    ],
)
@needs_torch
def test_what_does_not_fit_is_refused(
    pictures: NDArray[Any], labels: NDArray[Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        fit(pictures, labels, classes=3, seed=0)


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'timonel\[torch\]'"):
        fit(*shapes(4), classes=3, seed=0)


@needs_torch
def test_the_command_writes_a_model_and_says_how_good_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, labels = shapes(300, side=28)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(pictures))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels.astype(np.uint8)))
    out = tmp_path / "model.onnx"
    main([str(tmp_path), str(out), "--epochs", "1"])
    printed = capsys.readouterr().out
    assert "epoch 1/1: loss" in printed
    assert "of 300 right on the test set" in printed
    main([str(tmp_path), str(out), "--epochs", "1", "--validate", "50"])
    assert "of 50 right on the held-out set" in capsys.readouterr().out
    assert answers(out.read_bytes(), pictures)[1].shape == (300, 10)


@needs_torch
def test_the_command_names_a_missing_or_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(SourceError, match="train-images"):
        main([str(tmp_path), str(tmp_path / "model.onnx")])
