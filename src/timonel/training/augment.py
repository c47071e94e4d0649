"""Seeded variations of grey pictures, for training rows only.

A model that saw each digit once learns the hand that wrote it; one that saw it shifted, turned,
bent and with a thicker pen learns the digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timonel.errors import DefinitionError

__all__ = ["Augment", "jitter"]

# Small enough for the working arrays of one chunk to stay in the processor's cache.
CHUNK = 256


@dataclass(frozen=True)
class Augment:
    """Adds jittered copies of each training row; see `jitter` for the ranges.

    copies: jittered copies of each original; the originals are kept, and come first.
    shape: height and width of the picture that a row holds.
    """

    copies: int = 4
    shape: tuple[int, int] = (28, 28)
    shift: float = 2.0
    rotate: float = 12.0
    scale: float = 0.12
    shear: float = 0.15
    thickness: float = 0.5
    elastic: float = 0.7

    def __post_init__(self) -> None:
        ranges = (self.shift, self.rotate, self.scale, self.shear, self.thickness, self.elastic)
        if self.copies < 0 or min(ranges) < 0 or self.scale >= 1 or self.thickness > 1:
            raise DefinitionError(
                "Augment expects copies and ranges of 0 or more, scale below 1 and thickness up "
                f"to 1; got {self}."
            )

    def __call__(
        self, X: NDArray[Any], y: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """X: (n, h*w) or (n, h, w), values 0..255; y: (n,). Returns n * (copies + 1) rows.

        The dtype of X is kept. Raises DefinitionError when a row is not one picture of `shape`.
        """
        height, width = self.shape
        rows = len(X)
        if X.size != rows * height * width:
            raise DefinitionError(
                f"Augment expects rows of {height}x{width} = {height * width} values; "
                f"got an array of shape {X.shape}.",
                remedy="Give Augment the shape of the pictures: Augment(shape=(height, width)).",
            )
        pictures = X.reshape(rows, height, width)
        if pictures.dtype != np.uint8:
            pictures = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
        grown = np.empty((rows * (self.copies + 1), *X.shape[1:]), dtype=X.dtype)
        grown[:rows] = X
        for copy in range(1, self.copies + 1):
            grown[copy * rows : (copy + 1) * rows] = self.jitter(pictures, rng).reshape(X.shape)
        return grown, np.concatenate([y] * (self.copies + 1))

    def jitter(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """One jittered version of each picture: (n, h, w) to (n, h, w)."""
        return jitter(
            images,
            rng,
            shift=self.shift,
            rotate=self.rotate,
            scale=self.scale,
            shear=self.shear,
            thickness=self.thickness,
            elastic=self.elastic,
        )


def jitter(
    images: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    shift: float = 0.0,
    rotate: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    thickness: float = 0.0,
    elastic: float = 0.0,
) -> NDArray[np.uint8]:
    """One random variation of each picture, white ink on black: (n, h, w) uint8 to the same.

    Each amount is drawn evenly from -range to +range, for each picture by itself.

    shift: pixels, across and down; rotate: degrees; scale: share of the size, across and down;
    shear: pixels across for each pixel down; thickness: share of one pixel that the pen grows
    or shrinks by on either side; elastic: pixels (standard deviation) that the knots of a
    coarse net wander, bending the strokes between them.
    """
    jittered = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK].astype(np.float32)
        if thickness:
            chunk = _repen(chunk, rng.uniform(-thickness, thickness, len(chunk)))
        if shift or rotate or scale or shear or elastic:
            down, across = _warp(chunk.shape, rng, shift, rotate, scale, shear, elastic)
            chunk = _sample(chunk, down, across)
        jittered[start : start + CHUNK] = np.rint(chunk)
    return jittered


def _repen(images: NDArray[np.float32], amounts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Thicken (amount > 0) or thin (< 0) strokes by grey dilation or erosion with a plus."""
    amount = amounts.astype(np.float32)[:, None, None]
    thin = amount[:, 0, 0] < 0
    # Erosion is dilation of the negative, so one pass serves both.
    inked = np.where(thin[:, None, None], 255 - images, images)
    grown = inked.copy()
    np.maximum(grown[:, 1:], inked[:, :-1], out=grown[:, 1:])
    np.maximum(grown[:, :-1], inked[:, 1:], out=grown[:, :-1])
    np.maximum(grown[:, :, 1:], inked[:, :, :-1], out=grown[:, :, 1:])
    np.maximum(grown[:, :, :-1], inked[:, :, 1:], out=grown[:, :, :-1])
    inked += np.abs(amount) * (grown - inked)
    repenned = np.where(thin[:, None, None], 255 - inked, inked)
    # A thin pen is not a faint one: the brightest point stays as bright as it was.
    peak = repenned.max(axis=(1, 2), keepdims=True)
    before = images.max(axis=(1, 2), keepdims=True)
    restored: NDArray[np.float32] = repenned * (before / np.maximum(peak, 1))
    return restored


def _warp(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    shift: float,
    rotate: float,
    scale: float,
    shear: float,
    elastic: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel of the result comes from: rows and columns, each (n, h, w)."""
    n, height, width = shape
    angle = np.radians(rng.uniform(-rotate, rotate, n))
    slant = rng.uniform(-shear, shear, n)
    zoom = 1 / (1 + rng.uniform(-scale, scale, (2, n)))
    move = rng.uniform(-shift, shift, (2, n))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array(
        [
            [zoom[0] * cos, zoom[0] * sin],
            [zoom[1] * (slant * cos - sin), zoom[1] * (slant * sin + cos)],
        ]
    ).astype(np.float32)[..., None, None]
    middle = np.array([(height - 1) / 2, (width - 1) / 2], dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None] - middle[0]
    x = np.arange(width, dtype=np.float32)[None, :] - middle[1]
    offset = (middle[:, None] + move).astype(np.float32)[..., None, None]
    down = matrix[0, 0] * y + matrix[0, 1] * x + offset[0]
    across = matrix[1, 0] * y + matrix[1, 1] * x + offset[1]
    if elastic:
        knots = rng.normal(0, elastic, (2, n, 6, 6)).astype(np.float32)
        bend = _spread(height, 6) @ knots @ _spread(width, 6).T
        down += bend[0]
        across += bend[1]
    return down, across


def _spread(size: int, knots: int) -> NDArray[np.float32]:
    """Smooth weights (size, knots) that carry values at the knots to every pixel."""
    at = np.linspace(0, knots - 1, size)[:, None] - np.arange(knots)[None, :]
    weights = np.exp(-(at**2))
    spread: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return spread


def _sample(
    images: NDArray[np.float32], down: NDArray[np.float32], across: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Bilinear values at (down, across); outside the picture it is black."""
    n, height, width = images.shape
    # A black frame of one pixel stands for everything outside.
    framed = np.zeros((n, height + 3, width + 3), dtype=np.float32)
    framed[:, 1 : height + 1, 1 : width + 1] = images
    y = np.clip(down + 1, 0, height + 1)
    x = np.clip(across + 1, 0, width + 1)
    top, left = y.astype(np.int32), x.astype(np.int32)
    y -= top
    x -= left
    stride = width + 3
    corner = top * stride + left + np.arange(n, dtype=np.int32)[:, None, None] * framed[0].size
    flat = framed.ravel()
    upper: NDArray[np.float32] = flat[corner]
    upper += x * (flat[corner + 1] - upper)
    corner += stride
    lower: NDArray[np.float32] = flat[corner]
    lower += x * (flat[corner + 1] - lower)
    lower -= upper
    lower *= y
    lower += upper
    return lower
