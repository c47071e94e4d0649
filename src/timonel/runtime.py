"""ONNX Runtime behind one call: arrays in, class indices and probabilities out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from timonel.errors import ArtifactError
from timonel.signature import Signature
from timonel.tensors import Arrays, feed

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxModel", "open_session"]


def open_session(content: bytes, threads: int = 1) -> "onnxruntime.InferenceSession":
    """A session on the CPU.

    Raises:
        ArtifactError: the content is no ONNX model that this runtime can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # What fails is raised: a line of the runtime's for each request would only fill the log.
    options.log_severity_level = 4
    # Idle threads that spin would take the cores from the processes that answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (onnxruntime's errors share no public base)
        raise ArtifactError(f"Expected an ONNX model, got: {_first_line(error)}") from None


class OnnxModel:
    """A version's graph with its signature; safe to call from several threads."""

    def __init__(self, content: bytes, signature: Signature, *, threads: int = 1) -> None:
        self.signature = signature
        self._session = open_session(content, threads)
        binding = signature.binding
        have = {item.name for item in self._session.get_inputs()}
        if not set(binding.inputs) <= have:
            raise ArtifactError(
                f"{signature.project}/{signature.model}: expected inputs "
                f"{', '.join(binding.inputs)}, got {', '.join(sorted(have))}."
            )
        self._outputs = [name for name in (binding.label, binding.scores) if name]
        known = {output.name for output in self._session.get_outputs()}
        if not self._outputs or not set(self._outputs) <= known:
            raise ArtifactError(
                f"{signature.project}/{signature.model}: expected outputs "
                f"{', '.join(self._outputs) or 'label or scores'}, got {', '.join(sorted(known))}."
            )
        self._index: dict[object, int] = {
            label: index for index, label in enumerate(signature.classes)
        }

    def predict(self, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Class indices int64 (n,) and probabilities float32 (n, classes) for n rows.

        Raises:
            ArtifactError: the graph failed on these inputs.
        """
        indices, scores = self.answer(arrays)
        return np.array(indices, np.int64), scores

    def answer(self, arrays: Arrays) -> tuple[list[int], np.ndarray]:
        """What `predict` says, with the indices as a list."""
        return self.run(feed(self.signature.binding, self.signature.columns, arrays))

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[list[int], np.ndarray]:
        """Class indices and probabilities float32 (n, classes) for the graph's inputs of n rows.

        Raises:
            ArtifactError: the graph failed on these inputs.
        """
        rows = len(inputs[self.signature.binding.inputs[0]])
        if rows == 0:
            return [], np.empty((0, len(self._index)), np.float32)
        if rows == 1 or self.signature.binding.batch:
            return self._run(inputs, rows)
        parts = [
            self._run({name: value[row : row + 1] for name, value in inputs.items()}, 1)
            for row in range(rows)
        ]
        return [p[0][0] for p in parts], np.concatenate([p[1] for p in parts])

    def _run(self, inputs: Mapping[str, np.ndarray], rows: int) -> tuple[list[int], np.ndarray]:
        binding = self.signature.binding
        try:
            outputs = self._session.run(self._outputs, inputs)
        except Exception as error:  # noqa: BLE001 (onnxruntime's errors share no public base)
            raise ArtifactError(
                f"{self.signature.project}/{self.signature.model} failed: {_first_line(error)}"
            ) from None
        scores = None
        if binding.scores:
            scores = outputs[-1]
            if not _is_table(scores):
                scores = np.asarray(scores, np.float32).reshape(rows, -1)
            if binding.logits:
                scores = _softmax(scores)
        if binding.label:
            indices = [self._index[label] for label in np.asarray(outputs[0]).ravel().tolist()]
        else:
            indices = scores.argmax(axis=1).tolist() if scores is not None else []
        if scores is None:  # a model without scores is sure of its label, for want of better
            scores = np.zeros((rows, len(self._index)), np.float32)
            scores[np.arange(rows), indices] = 1.0
        return indices, scores


def _is_table(scores: object) -> bool:
    return isinstance(scores, np.ndarray) and scores.ndim == 2 and scores.dtype == np.float32


def _softmax(logits: np.ndarray) -> np.ndarray:
    # The methods of arrays that do the same are three times slower on one row.
    exponents: np.ndarray = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
    exponents /= np.add.reduce(exponents, axis=1, keepdims=True)
    return exponents


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
