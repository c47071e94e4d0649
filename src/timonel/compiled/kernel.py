"""The kernel, compiled once a process by the machine's own compiler, and how it is called."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from timonel.compiled.ensemble import Ensemble, Unsuited

__all__ = ["Kernel", "compiled"]

_BLOCK = 256
_SECONDS = 60
_FLAGS = ("-O3", "-shared", "-fPIC")
_NATIVE = ("-march=native", "-mcpu=native", "-O3")  # what compilers call it differs


class _Ensemble(ctypes.Structure):
    _fields_ = (
        ("trees", ctypes.c_int32),
        ("classes", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("features", ctypes.c_int32),
        ("first", ctypes.c_void_p),
        ("tops", ctypes.c_void_p),
        ("exits", ctypes.c_void_p),
        ("nodes", ctypes.c_void_p),
        ("leaves", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
    )


@cache
def compiled() -> Callable[..., None]:
    """The kernel's function.

    It is compiled into a folder that is gone when this returns: nothing that somebody else could
    have written is ever loaded, and a version brings numbers only, no code.

    Raises:
        Unsuited: there is no compiler, or it fails.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise Unsuited("this machine has no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernel.c"), Path(folder, "kernel.so")
        source.write_bytes(files("timonel.compiled").joinpath("kernel.c").read_bytes())
        function = None
        for native in _NATIVE:
            command = [*compiler.split(), *_FLAGS, native, "-o", str(library), str(source)]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
                function = ctypes.CDLL(str(library)).timonel_score
                break
            except (OSError, subprocess.SubprocessError, AttributeError) as error:
                reason = error
        if function is None:
            raise Unsuited(f"this machine's C compiler failed ({reason})")
    function.restype = None
    pointer = ctypes.c_void_p
    function.argtypes = (pointer, pointer, ctypes.c_int64, pointer, pointer, pointer, pointer)
    return function


class Kernel:
    """An ensemble that answers rows of `features` values; safe to call from several threads.

    Raises:
        Unsuited: there is no kernel, or the rows are too narrow.
    """

    def __init__(self, ensemble: Ensemble, features: int) -> None:
        if features < ensemble.features:
            raise Unsuited(f"its trees ask for column {ensemble.features} of {features}")
        self._function = compiled()
        self._ensemble = ensemble
        self._features = features
        names = ("first", "tops", "exits", "nodes", "leaves", "weights", "base")
        self._kept = {name: np.ascontiguousarray(getattr(ensemble, name)) for name in names}
        self._struct = _Ensemble(
            trees=len(ensemble.first) - 1,
            classes=ensemble.classes,
            width=ensemble.weights.shape[1],
            features=features,
            **{name: _pointer(array) for name, array in self._kept.items()},
        )

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class indices int64 (n,) and probabilities float32 (n, classes) of float32 (n, features).

        Raises:
            Unsuited: the rows have another width.
        """
        if rows.ndim != 2 or rows.shape[1] != self._features:
            raise Unsuited(f"its trees were given rows of {rows.shape[1:]}")
        rows = np.ascontiguousarray(rows, np.float32)
        scores = np.empty((len(rows), self._ensemble.classes), np.float32)
        labels = np.empty(len(rows), np.int64)
        values = np.empty(_BLOCK * self._features, np.float32)
        sums = np.empty(_BLOCK * self._struct.width, np.float64)
        given = (_pointer(rows), len(rows), _pointer(scores), _pointer(labels))
        self._function(ctypes.byref(self._struct), *given, _pointer(values), _pointer(sums))
        return self._answers(labels, scores)

    def _answers(self, labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._ensemble.transform == "SOFTMAX":
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        if self._ensemble.classes == 1:
            labels = (scores[:, 0] > self._ensemble.middle).astype(np.int64)
            if self._ensemble.transform == "LOGISTIC":
                scores = 1.0 / (1.0 + np.exp(-scores))
            scores = np.concatenate([1.0 - scores, scores], axis=1)
        return labels, scores


def _pointer(array: np.ndarray) -> Any:
    return array.ctypes.data
