"""What a version would have answered to rows that the journal kept."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from timonel.errors import ArtifactError
from timonel.journal.layout import stored_name
from timonel.journal.records import image_values
from timonel.runtime import OnnxModel
from timonel.schema import Column
from timonel.signature import Signature
from timonel.stores.artifacts import fetch_version
from timonel.stores.objects import ObjectStore
from timonel.stores.versions import Version
from timonel.tensors import Arrays, arrays_of_frame

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Replay", "inputs_of"]

_LOADED = 4  # versions kept in memory
_PIECE = 10_000  # rows answered at a time


def inputs_of(columns: Sequence[Column], segment: "pl.DataFrame") -> Arrays:
    """The inputs of a segment's rows, as a model takes them."""
    import polars as pl

    pictures = [column for column in columns if column.image]
    others = [column for column in columns if not column.image]
    named = segment.select(pl.col(stored_name(c.name)).alias(c.name) for c in columns)
    arrays = arrays_of_frame(others, named)
    for column in pictures:
        size = column.image.size if column.image else 0
        rows = [image_values(content, size) for content in named[column.name]]
        arrays[column.name] = np.stack(rows) if rows else np.empty((0, size), np.float32)
    return arrays


class Replay:
    """Loads versions when they are asked, after their hashes were checked, and keeps a few."""

    def __init__(self, objects: ObjectStore, serving_folder: Path) -> None:
        self._objects = objects
        self._folder = serving_folder
        self._loaded: OrderedDict[str, OnnxModel] = OrderedDict()

    def __call__(self, version: Version, segment: "pl.DataFrame") -> list[str | None]:
        """The version's label, as text, for each row of a segment; None where it fails.

        Raises:
            ArtifactError: its files are not what they must be.
            StoreError: they cannot be had.
        """
        model = self._model(version)
        names = [str(label) for label in model.signature.classes]
        said: list[str | None] = []
        for piece in segment.iter_slices(_PIECE):
            inputs = inputs_of(model.signature.columns, piece)
            said += [None if index is None else names[index] for index in _run(model, inputs)]
        return said

    def _model(self, version: Version) -> OnnxModel:
        model = self._loaded.get(version.digest)
        if model is None:
            folder = fetch_version(version.digest, self._objects, self._folder)
            signature = Signature.from_json((folder / "signature.json").read_bytes())
            model = OnnxModel((folder / "model.onnx").read_bytes(), signature)
            self._loaded[version.digest] = model
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(version.digest)
        return model


def _run(model: OnnxModel, arrays: Arrays) -> list[int | None]:
    """Class indices of rows; a graph that fails on one of many fails on all, so each is tried."""
    try:
        return list(model.answer(arrays)[0])
    except ArtifactError:
        rows = len(next(iter(arrays.values())))
        if rows == 1:
            return [None]
        parts = ({name: part[n : n + 1] for name, part in arrays.items()} for n in range(rows))
        return [index for one in parts for index in _run(model, one)]
