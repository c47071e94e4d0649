"""Versions made to be tried: as good as the champion, worse, slower, or failing, on purpose.

Each is the champion's own graph with a few nodes behind it, so that a rollout has to tell them by
what they do. What they do depends on a request's values alone: the same request, the same answer.
"""

import getpass
import shutil
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from timonel.errors import BadRequest, NotFound
from timonel.pipeline.promotion import make_challenger
from timonel.project import Project
from timonel.runtime import OnnxModel
from timonel.serving.routing import blank_rows
from timonel.settings import Settings
from timonel.signature import Signature
from timonel.stores.artifacts import fetch_version, save_version
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.versions import Version, Versions

if TYPE_CHECKING:
    import onnx

__all__ = ["Made", "add_challenger", "altered"]

Made = Literal["good", "bad", "slow", "failing"]
"""`good` answers as the champion does, `bad` gives a share of the rows another class, `slow` takes
hundredths of a second longer for each request, `failing` fails on a share of the rows."""

_SLOW_SECONDS = 0.06
_SIDE = 192  # of the matrix that a slow version multiplies with
_TRIES = 20


def altered(
    content: bytes, signature: Signature, kind: Made, *, share: float = 0.2
) -> tuple[bytes, Signature]:
    """A version's graph and signature, altered; `share` (0..1) of rows are answered badly or not.

    Raises:
        BadRequest: the graph has no scores to alter.
    """
    if signature.binding.scores is None:
        raise BadRequest(
            f"Expected a version of {signature.project}/{signature.model} with probabilities, got "
            "one without: no other version can be made of it."
        )
    binding = replace(signature.binding, label=None, scores=_scores_of(signature))
    changed = replace(signature, binding=binding)
    if kind == "slow":
        trips = 64
        began = _seconds(_built(content, signature, kind, trips=0), changed)
        once = (_seconds(_built(content, signature, kind, trips=trips), changed) - began) / trips
        trips = max(1, round(_SLOW_SECONDS / max(once, 1e-7)))
        return _built(content, signature, kind, trips=trips), changed
    for salt in range(_TRIES):
        made = _built(content, signature, kind, share=share, salt=salt)
        if kind != "failing":
            return made, changed
        try:  # a worker warms what it loads with blank rows: those must be answered
            _seconds(made, changed)
        except BadRequest:
            continue
        return made, changed
    raise BadRequest(f"Expected a share of rows to fail on that leaves some, got {share}.")


def _scores_of(signature: Signature) -> str:
    """What the altered scores are called; one that was made so may be altered again."""
    return f"{signature.binding.scores}_simulated"


def _seconds(content: bytes, signature: Signature) -> float:
    """What a blank row takes; raises BadRequest when it fails."""
    from timonel.errors import ArtifactError

    model = OnnxModel(content, signature)
    row = blank_rows(signature.columns, 1)
    spent = []
    try:
        for _ in range(3):
            began = time.perf_counter()
            model.predict(row)
            spent.append(time.perf_counter() - began)
    except ArtifactError as error:
        raise BadRequest(str(error)) from None
    return min(spent)


def add_challenger(
    settings: Settings,
    project: Project,
    model: str,
    kind: Made,
    *,
    share: float = 0.2,
) -> Version:
    """Make such a version of the champion, number it as a run does, and let it be rolled out.

    Raises:
        NotFound: the model has no champion.
        BadRequest: nothing can be made of it.
    """
    with closing(Database.open(settings.database_url)) as database:
        versions = Versions(database)
        champion = versions.champion(project.name, model)
        if champion is None:
            raise NotFound(
                f"Expected a champion of {project.name}/{model}, got none.",
                remedy=f"Train one: timonel run {project.reference}",
            )
        objects = ObjectStore.open(settings.objects_url)
        folder = fetch_version(champion.digest, objects, settings.serving_folder)
        signature = Signature.from_json((folder / "signature.json").read_bytes())
        content = (folder / "model.onnx").read_bytes()
        content, changed = altered(content, signature, kind, share=share)
        reason = f"made of {champion.label} by timonel simulate, to be {kind}"
        with tempfile.TemporaryDirectory() as temporary:
            draft = Path(temporary, "version")
            shutil.copytree(folder, draft)
            (draft / "model.onnx").write_bytes(content)
            (draft / "signature.json").write_bytes(changed.to_json())
            digest = save_version(draft, objects)
        known = [version.number for version in versions.list(project.name, model)]
        number = _number(settings, project, model, content, changed, digest, above=max(known))
        names, who = (project.name, model, number), getpass.getuser()
        versions.add(*names, digest=digest, who=who, reason=reason)
    make_challenger(settings, *names, who=who, force=True)  # no gate has judged it: that is meant
    return replace(champion, number=number, state="challenger", digest=digest, reason=reason)


def _number(
    settings: Settings,
    project: Project,
    model: str,
    content: bytes,
    signature: Signature,
    digest: str,
    *,
    above: int,
) -> int:
    """The number that MLflow gives it, so that a later run's does not meet it."""
    from timonel.stores.registry import Registry

    registry = Registry.open(settings.registry_url)
    run = registry.start(project.experiment or project.name, f"{project.name}/{model} simulated")
    uri = registry.log_onnx(run, content, signature.columns, signature.binding)
    registry.finish(run)
    number, tags = 0, {"timonel.artifact": digest, "timonel.gate": "none"}
    while number <= above:  # a home may have versions that this registry has not seen
        number = registry.register(project.registered(model), run, uri, tags=tags)
    return number


def _built(
    content: bytes,
    signature: Signature,
    kind: Made,
    *,
    share: float = 0.0,
    salt: int = 0,
    trips: int = 0,
) -> bytes:
    import onnx

    graph = _Graph(onnx.load_from_string(content), signature)
    match kind:
        case "good":
            graph.good()
        case "bad":
            graph.bad(share, salt)
        case "failing":
            graph.failing(share, salt)
        case "slow":
            graph.slow(trips)
    return graph.content()


class _Graph:
    """An ONNX model to which nodes are added behind its scores."""

    def __init__(self, model: "onnx.ModelProto", signature: Signature) -> None:
        from onnx import TensorProto, helper

        self._model = model
        self._signature = signature
        self._helper, self._type = helper, TensorProto
        self._classes = len(signature.classes)
        known = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
        self._opset = known[0] if known else 17
        if not known:
            model.opset_import.append(helper.make_opsetid("", self._opset))
        self._end_name = _scores_of(signature)
        self._count = 0
        scores = self._add("Cast", [signature.binding.scores or ""], to=TensorProto.FLOAT)
        self._scores = self._add("Reshape", [scores, self._whole([-1, self._classes])])

    def good(self) -> None:
        self._end(self._add("Identity", [self._scores]))

    def bad(self, share: float, salt: int) -> None:
        others = [*range(1, self._classes), 0]
        rolled = self._add("Gather", [self._scores, self._whole(others)], axis=1)
        self._end(self._add("Where", [self._struck(share, salt), rolled, self._scores]))

    def failing(self, share: float, salt: int) -> None:
        """Rows that are struck look into a table of one number, far behind its end."""
        struck = self._struck(share, salt)
        place = self._add("Where", [struck, self._whole([1_000_000]), self._whole([0])])
        ones = self._add("Gather", [self._numbers([1.0]), place], axis=0)
        self._end(self._add("Mul", [self._scores, ones]))

    def slow(self, trips: int) -> None:
        """Multiplies a vector with a matrix so many times, and adds what vanishes to the scores."""
        helper = self._helper
        rng = np.random.default_rng(0)
        matrix = rng.normal(0, 1 / np.sqrt(_SIDE), (_SIDE, _SIDE)).astype(np.float32)
        weights = self._numbers(matrix.ravel().tolist(), (_SIDE, _SIDE))
        first = self._mean(self._scores)
        top = self._add("ReduceMax", [first], keepdims=1)
        one = self._add("Reshape", [top, self._whole([1, 1])])
        vector = self._add("Expand", [one, self._whole([1, _SIDE])])
        kind = self._type.FLOAT
        body = helper.make_graph(
            [
                helper.make_node("MatMul", ["simulated_in", weights], ["simulated_product"]),
                helper.make_node("Tanh", ["simulated_product"], ["simulated_out"]),
                helper.make_node("Identity", ["simulated_go"], ["simulated_on"]),
            ],
            "simulated_body",
            [
                helper.make_tensor_value_info("simulated_trip", self._type.INT64, []),
                helper.make_tensor_value_info("simulated_go", self._type.BOOL, []),
                helper.make_tensor_value_info("simulated_in", kind, [1, _SIDE]),
            ],
            [
                helper.make_tensor_value_info("simulated_on", self._type.BOOL, []),
                helper.make_tensor_value_info("simulated_out", kind, [1, _SIDE]),
            ],
        )
        last = self._add("Loop", [self._whole([trips], ()), "", vector], body=body)
        small = self._add("Mul", [self._add("ReduceMax", [last], keepdims=0), self._tiny()])
        self._end(self._add("Add", [self._scores, small]))

    def content(self) -> bytes:
        import onnx

        onnx.checker.check_model(self._model)
        content: bytes = self._model.SerializeToString()
        return content

    def _struck(self, share: float, salt: int) -> str:
        """Whether a row (n, 1) is one of a share, by digits of its values that mean nothing."""
        weights = [1.0 + 0.37 * n for n in range(self._classes)]
        total = self._add("MatMul", [self._scores, self._numbers(weights, (self._classes, 1))])
        for item in self._model.graph.input:
            if item.type.tensor_type.elem_type == self._type.FLOAT:
                total = self._add("Add", [total, self._mean(item.name)])
        factor, shift = self._numbers([37.739]), self._numbers([0.618 * salt])
        large = self._add("Add", [self._add("Mul", [total, factor]), shift])
        rest = self._add("Sub", [large, self._add("Floor", [large])])
        return self._add("Less", [rest, self._numbers([share])])

    def _mean(self, name: str) -> str:
        """Each row's mean (n, 1)."""
        flat = self._add("Flatten", [name], axis=1)
        if self._opset >= 18:
            return self._add("ReduceMean", [flat, self._whole([1])], keepdims=1)
        return self._add("ReduceMean", [flat], axes=[1], keepdims=1)

    def _tiny(self) -> str:
        return self._numbers([1e-30])

    def _end(self, name: str) -> None:
        helper, graph = self._helper, self._model.graph
        graph.node.append(helper.make_node("Identity", [name], [self._end_name]))
        del graph.output[:]
        shape = [None, self._classes]
        graph.output.append(helper.make_tensor_value_info(self._end_name, self._type.FLOAT, shape))

    def _add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = self._name()
        node = self._helper.make_node(kind, inputs, [name], name=name, **attributes)
        self._model.graph.node.append(node)
        return name

    def _name(self) -> str:
        self._count += 1
        return f"{self._end_name}_{self._count}"

    def _numbers(self, values: list[float], shape: tuple[int, ...] | None = None) -> str:
        return self._constant(self._type.FLOAT, values, shape)

    def _whole(self, values: list[int], shape: tuple[int, ...] | None = None) -> str:
        return self._constant(self._type.INT64, values, shape)

    def _constant(self, kind: int, values: Any, shape: tuple[int, ...] | None) -> str:
        name = self._name()
        dims = (len(values),) if shape is None else shape
        made = self._helper.make_tensor(name, kind, dims, values)
        self._model.graph.initializer.append(made)
        return name
