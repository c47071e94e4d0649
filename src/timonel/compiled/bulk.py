"""A version for many rows at a time: on all cores, by whatever is measured to be fastest."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from timonel.compiled.ensemble import Ensemble, Unsuited, split
from timonel.compiled.kernel import Kernel
from timonel.errors import ArtifactError
from timonel.runtime import OnnxModel, open_session
from timonel.signature import Signature
from timonel.tensors import Arrays, feed

__all__ = ["BulkModel", "cores"]

_Predict = Callable[[Arrays], tuple[np.ndarray, np.ndarray]]

_SAMPLE = 4_096
_FEW = 20_000  # rows that are answered sooner than a compiler has started
_TIE = 1e-6
_CLOSE = 1e-5


def cores() -> int:
    """The cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@dataclass(frozen=True)
class _Trees:
    """The graph before the trees on ONNX Runtime, and the trees by the kernel."""

    signature: Signature
    before: bytes | None
    ensemble: Ensemble

    def open(self, sample: Arrays) -> _Predict:
        """A function that predicts; raises Unsuited."""
        binding, columns = self.signature.binding, self.signature.columns
        session = open_session(self.before) if self.before is not None else None

        def prepared(arrays: Arrays) -> np.ndarray:
            inputs = feed(binding, columns, arrays)
            if session is None:
                return np.asarray(inputs[self.ensemble.source])
            return np.asarray(session.run([self.ensemble.source], inputs)[0])

        width = prepared(sample)
        if width.ndim != 2 or width.dtype != np.float32:
            raise Unsuited(f"its trees take {width.dtype} {width.shape[1:]}")
        kernel = Kernel(self.ensemble, width.shape[1])
        return lambda arrays: kernel.predict(prepared(arrays))


class BulkModel:
    """Answers large tables as `OnnxModel` answers rows, on several threads.

    The first call with enough rows decides: where the graph ends in trees and both agree on a
    sample (probabilities within 1e-5, labels the same but for ties within 1e-6), the faster one of
    kernel and ONNX Runtime answers from then on. `engine` says which, `note` why it is not the
    kernel.
    """

    def __init__(self, content: bytes, signature: Signature, *, threads: int | None = None) -> None:
        self.engine = "onnxruntime"
        self.note = ""
        self.threads = threads or cores()
        self.signature = signature
        self._content = content
        # One thread a call, as where it serves: sums in another order would break ties otherwise.
        self._model = OnnxModel(content, signature)
        self._predict: _Predict = self._model.predict
        self._decided = False
        self._pool = ThreadPoolExecutor(self.threads, "bulk")

    def predict(self, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Class indices int64 (n,) and probabilities float32 (n, classes) for n rows.

        Raises:
            ArtifactError: the graph failed on these inputs.
        """
        rows = len(next(iter(arrays.values())))
        if not self._decided and rows >= _FEW:
            self._decide(arrays)
        size = max(-(-rows // self.threads), 1_024)
        if rows <= size:
            return self._predict(arrays)
        parts = [_rows(arrays, start, start + size) for start in range(0, rows, size)]
        answers = list(self._pool.map(self._predict, parts))
        return np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])

    def _decide(self, arrays: Arrays) -> None:
        self._decided = True
        sample = _rows(arrays, 0, _SAMPLE)
        try:
            self._predict = self._faster(sample)
            self.engine = "trees"
        except Unsuited as reason:
            self.note = f"ONNX Runtime answers: {reason}."
        except ImportError:
            self.note = (
                "ONNX Runtime answers: to read a version's trees, install them with: "
                "pip install 'timonel[bulk]'"
            )

    def _faster(self, sample: Arrays) -> _Predict:
        binding = self.signature.binding
        try:
            before, ensemble = split(self._content, binding.label, binding.scores)
            trees = _Trees(self.signature, before, ensemble).open(sample)
        except (ArtifactError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise Unsuited(f"its trees cannot be read ({type(error).__name__})") from None
        expected, theirs = _timed(self._model.predict, sample)
        found, ours = _timed(trees, sample)
        if not _agree(found, expected):
            raise Unsuited("its trees, compiled, answer otherwise on a sample")
        if ours >= theirs:
            raise Unsuited("it was faster on a sample")
        return trees


def _rows(arrays: Arrays, start: int, end: int) -> Arrays:
    return {name: array[start:end] for name, array in arrays.items()}


def _timed(predict: _Predict, sample: Arrays) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """The answers, and the better of two times."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        answers = predict(sample)
        seconds.append(time.perf_counter() - started)
    return answers, min(seconds)


def _agree(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> bool:
    if found[1].shape != expected[1].shape:
        return False
    if not (np.abs(found[1] - expected[1]) <= _CLOSE).all():  # false for NaN as well
        return False
    best = np.sort(expected[1], axis=1)
    tied = best[:, -1] - best[:, -2] <= _TIE
    return bool(((found[0] == expected[0]) | tied).all())
