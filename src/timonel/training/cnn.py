"""A small convolutional network for one grey picture, trained with torch, served as ONNX.

`python -m timonel.training.cnn MNIST_FOLDER OUT.onnx` makes the digits model that ships with
the package.
"""

from __future__ import annotations

import argparse
import io
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timonel.data.idx import read_images, read_labels
from timonel.errors import DefinitionError, MissingExtra
from timonel.training.augment import Augment

if TYPE_CHECKING:
    import torch

__all__ = ["fit", "main"]

BATCH = 128
PEAK_RATE = 4e-3
WARM_UP = 0.2
DECAY = 0.998
SMALLEST = 20
OPSET = 17

Progress = Callable[[int, int, float], None]


def fit(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    *,
    classes: int,
    seed: int,
    epochs: int = 24,
    augment: Augment | None = None,
    minutes: float | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """Train on pictures (n, h, w), white ink on black, with labels 0..classes-1; returns ONNX.

    The graph takes `pixels` (float32 [N, h*w], 0..255, row by row) and answers `label`
    (int64 [N]) and `probabilities` (float32 [N, classes]).

    augment: every epoch sees each picture once, jittered anew (`copies` does not matter).
    minutes: a wall-clock ceiling: after the first epoch the plan is cut to what fits. With it
    the result depends on the machine's speed; without it, on the arguments and thread count.
    progress: called after each epoch with its number, the number planned and its mean loss.

    Raises MissingExtra without torch, DefinitionError for pictures or labels that do not fit.
    """
    try:
        import torch
    except ModuleNotFoundError as missing:
        raise MissingExtra("Training a convolutional network", "torch") from missing
    _check(images, labels, classes)
    rng = np.random.default_rng(seed)
    answers = torch.from_numpy(labels.astype(np.int64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _network(images.shape[1], images.shape[2], classes)
    net.to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(net, avg_fn=_blend, use_buffers=True)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    batches = math.ceil(len(images) / BATCH)
    started = clock()
    epoch = 0
    while epoch < epochs:
        pictures = augment.jitter(images, rng) if augment else images
        order = torch.from_numpy(rng.permutation(len(images)))
        shown = torch.from_numpy(pictures)[:, None]
        lost = 0.0
        for batch in range(batches):
            done = (epoch * batches + batch) / (epochs * batches)
            for group in optimizer.param_groups:
                group["lr"] = _rate(done)
            rows = order[batch * BATCH : (batch + 1) * BATCH]
            inputs = (shown[rows].float() / 255).contiguous(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(net(inputs), answers[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update_parameters(net)
            lost += loss.item() * len(rows)
        epoch += 1
        if minutes is not None and epoch == 1:
            epochs = max(1, min(epochs, int(minutes * 60 / max(clock() - started, 1e-9))))
        if progress:
            progress(epoch, epochs, lost / len(images))
    return _export(average.module, images.shape[1], images.shape[2])


def _check(images: NDArray[np.uint8], labels: NDArray[Any], classes: int) -> None:
    if images.ndim != 3 or images.dtype != np.uint8 or min(images.shape[1:]) < SMALLEST:
        raise DefinitionError(
            f"The network expects uint8 pictures (n, h, w) of {SMALLEST}x{SMALLEST} or more; "
            f"got {images.dtype} {images.shape}."
        )
    if len(images) == 0 or labels.shape != images.shape[:1]:
        raise DefinitionError(
            f"The network expects one label for each picture, and at least one; "
            f"got {len(images)} pictures and labels of shape {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DefinitionError(
            f"The network expects labels 0..{classes - 1}; got {labels.min()}..{labels.max()}."
        )


def _rate(done: float) -> float:
    """The learning rate when this share of the training is done: up, then down a cosine."""
    if done < WARM_UP:
        return PEAK_RATE * (0.1 + 0.9 * done / WARM_UP)
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _blend(mean: torch.Tensor, latest: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
    """A running mean of the weights that forgets its start quickly, then slowly."""
    return mean + (latest - mean) * max(1 - DECAY, 9 / (10 + int(steps)))


def _network(height: int, width: int, classes: int) -> torch.nn.Sequential:
    """About 45,000 parameters for 28x28 pictures and 10 classes."""
    from torch import nn

    def block(inputs: int, outputs: int, size: int, padding: int, pool: bool) -> list[nn.Module]:
        # Pooling before the rectifier gives the same values for a quarter of its work.
        return [
            nn.Conv2d(inputs, outputs, size, padding=padding, bias=False),
            nn.BatchNorm2d(outputs),
            *([nn.MaxPool2d(2)] if pool else []),
            nn.ReLU(inplace=True),
        ]

    cells = math.prod((((side - 4) // 2) // 2 - 2) // 2 for side in (height, width))
    return nn.Sequential(
        *block(1, 16, 5, 0, pool=False),
        *block(16, 16, 3, 1, pool=True),
        *block(16, 32, 3, 1, pool=False),
        *block(32, 40, 3, 1, pool=True),
        *block(40, 64, 3, 0, pool=True),
        nn.Flatten(),
        nn.Linear(64 * cells, classes),
    )


def _export(net: torch.nn.Module, height: int, width: int) -> bytes:
    """The network as one ONNX file: raw pixels in, label and probabilities out."""
    import torch

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores = self.net(pixels.reshape(-1, 1, height, width) / 255)
            return scores.argmax(dim=1), scores.softmax(dim=1)

    file = io.BytesIO()
    with warnings.catch_warnings():
        # The other exporter needs a package more, for the same graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            Served().to(memory_format=torch.contiguous_format).eval(),
            (torch.zeros(2, height * width),),
            file,
            input_names=["pixels"],
            output_names=["label", "probabilities"],
            dynamic_axes={name: {0: "N"} for name in ("pixels", "label", "probabilities")},
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


def _mnist(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """MNIST's pictures (n, 28, 28) and labels (n,) of one part: "train" or "t10k"."""
    pictures, height, width = read_images(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_labels(folder / f"{part}-labels-idx1-ubyte.gz")
    pixels = np.frombuffer(b"".join(pictures), dtype=np.uint8)
    return pixels.reshape(-1, height, width), np.array(labels, dtype=np.uint8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on MNIST's 60,000 pictures, write the ONNX file, then look at the test set once."""
    import hashlib

    import onnxruntime

    parser = argparse.ArgumentParser(
        prog="python -m timonel.training.cnn", description=main.__doc__
    )
    parser.add_argument("mnist", type=Path, help="folder with MNIST's four .gz files")
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--minutes", type=float, help="a ceiling that may cut the epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--validate",
        type=int,
        metavar="N",
        help="hold out the last N training pictures and look at them instead of the test set",
    )
    options = parser.parse_args(arguments)
    images, labels = _mnist(options.mnist, "train")
    if options.validate:
        images, seen = images[: -options.validate], images[-options.validate :]
        labels, truth = labels[: -options.validate], labels[-options.validate :]
    else:
        seen, truth = _mnist(options.mnist, "t10k")
    started = time.monotonic()

    def say(sentence: str) -> None:
        print(sentence, flush=True)  # noqa: T201 -- this is a command

    def line(epoch: int, epochs: int, loss: float) -> None:
        seconds = time.monotonic() - started
        say(f"epoch {epoch}/{epochs}: loss {loss:.4f}, {seconds:.0f} s")

    model = fit(
        images,
        labels,
        classes=10,
        seed=options.seed,
        epochs=options.epochs,
        augment=Augment(rotate=10, shear=0.1, elastic=1.0),
        minutes=options.minutes,
        progress=line,
    )
    options.out.write_bytes(model)
    session = onnxruntime.InferenceSession(model)
    pixels = seen.reshape(len(seen), -1).astype(np.float32)
    right = int((session.run(["label"], {"pixels": pixels})[0] == truth).sum())
    say(f"{right} of {len(truth)} right on the {'held-out' if options.validate else 'test'} set")
    say(f"{options.out}: {len(model)} bytes, sha256 {hashlib.sha256(model).hexdigest()}")


if __name__ == "__main__":
    main()
