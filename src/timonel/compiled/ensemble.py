"""The trees of a version's graph as arrays, and the graph that comes before them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["EXITS", "LANES", "NODE", "TOP", "Ensemble", "Unsuited", "split"]

EXITS = 64
LANES = 4
NODE = np.dtype([("threshold", "f4"), ("feature", "i4"), ("next", "i4"), ("stray", "i4")])
TOP = np.dtype(
    [("threshold", "f4"), ("feature", "i4"), ("keep", "u8"), ("stray", "i4"), ("_", "i4")]
)

# More than this for the leaves' weights alone would not be flat memory any more.
_MOST_WEIGHTS = 50_000_000


class Unsuited(Exception):
    """A graph that has no ensemble of trees which can be taken out; says why."""


@dataclass(frozen=True)
class Ensemble:
    """Trees as the kernel takes them; see kernel.c for the arrays.

    `source` names the graph's value that holds the trees' inputs, float32 (n, at least `features`).
    `transform` is what makes probabilities of the sums: NONE, SOFTMAX or LOGISTIC. With one class,
    sums are of the second of two, which is the label when its sum is above `middle`.
    """

    source: str
    features: int
    classes: int
    transform: str
    middle: float
    first: np.ndarray
    tops: np.ndarray
    exits: np.ndarray
    nodes: np.ndarray
    leaves: np.ndarray
    weights: np.ndarray
    base: np.ndarray


def split(content: bytes, label: str | None, scores: str | None) -> tuple[bytes | None, Ensemble]:
    """The graph before the trees (None when the trees take its input as it is), and the trees.

    `label` and `scores` are the outputs that the trees must make.

    Raises:
        Unsuited: it ends in something else than trees, or in trees of a kind not known here.
        ImportError: the package onnx is not installed.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    found = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    if len(found) != 1:
        raise Unsuited("its graph has no trees" if not found else "its graph has several ensembles")
    node = found[0]
    same = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity"}
    if [same.get(name or "", name) for name in (label, scores)] != list(node.output):
        raise Unsuited("something follows its trees")
    given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    ensemble = _ensemble(node.input[0], given)
    if node.input[0] in {item.name for item in model.graph.input}:
        return None, ensemble
    return _before(model, node), ensemble


def _before(model: "onnx.ModelProto", trees: "onnx.NodeProto") -> bytes:
    import onnx

    graph = model.graph
    for after in [node for node in graph.node if set(node.input) & set(trees.output)]:
        graph.node.remove(after)
    graph.node.remove(trees)
    del graph.output[:]
    # ONNX Runtime finds the type out.
    graph.output.append(onnx.helper.make_empty_tensor_value_info(trees.input[0]))
    content: bytes = model.SerializeToString()
    return content


def _ensemble(source: str, given: dict[str, Any]) -> Ensemble:
    if odd := sorted(name for name in given if name.endswith("_as_tensor")):
        raise Unsuited(f"its trees have {odd[0]}")
    modes = given["nodes_modes"]
    if other := set(modes) - {b"BRANCH_LEQ", b"LEAF"}:
        raise Unsuited(f"its trees branch by {min(other).decode()}")
    transform = given.get("post_transform", b"NONE").decode()
    labels = given.get("classlabels_int64s") or given.get("classlabels_strings") or []
    classes = len(labels)
    ids = np.array(given["class_ids"], np.int64)
    single = classes == 2 and set(ids.tolist()) == {0}
    if transform not in (("NONE", "LOGISTIC") if single else ("NONE", "SOFTMAX")):
        raise Unsuited(f"its trees' sums become probabilities by {transform}")
    leaf = np.array([mode == b"LEAF" for mode in modes])
    order, nodes, roots = _laid_out(given, leaf)
    leaves = np.full(len(nodes), -1, np.int32)
    ends = np.flatnonzero(leaf[order])
    leaves[ends] = np.arange(len(ends), dtype=np.int32)
    outputs = 1 if single else classes
    width = -(-outputs // LANES) * LANES
    if len(ends) * width > _MOST_WEIGHTS:
        raise Unsuited("its trees are too large")
    if ((ids < 0) | (ids >= outputs)).any():
        raise Unsuited("its trees have other classes than it names")
    weights = np.zeros((len(ends), width))
    number = np.empty(len(nodes), np.int64)
    number[order] = leaves
    at = _positions(given, "class_treeids", "class_nodeids")
    if (number[at] < 0).any():
        raise Unsuited("its trees have weights where there is no leaf")
    np.add.at(weights, (number[at], ids), np.array(given["class_weights"], np.float32))
    base = np.zeros(width)
    values = given.get("base_values") or []
    if len(values) not in (0, outputs):
        raise Unsuited("its trees have other base values than classes")
    base[: len(values)] = values
    first, tops, exits = _upper_parts(nodes, leaves, roots)
    return Ensemble(
        source=source,
        features=int(nodes["feature"].max()) + 1,
        classes=outputs,
        transform=transform,
        middle=0.5 if (weights >= 0).all() else 0.0,
        first=first,
        tops=tops,
        exits=exits,
        nodes=nodes,
        leaves=leaves,
        weights=weights,
        base=base,
    )


def _positions(given: dict[str, Any], trees: str, nodes: str) -> np.ndarray:
    """Where the nodes stand that are named by tree and number."""
    own = _names(given["nodes_treeids"], given["nodes_nodeids"])
    asked = _names(given[trees], given[nodes])
    sorting = np.argsort(own, kind="stable")
    places = np.minimum(np.searchsorted(own[sorting], asked), len(own) - 1)
    found = sorting[places]
    if (own[found] != asked).any():
        raise Unsuited("its trees lead to nodes that are not there")
    return np.asarray(found)


def _names(trees: Sequence[int], nodes: Sequence[int]) -> np.ndarray:
    tree, node = np.array(trees, np.int64), np.array(nodes, np.int64)
    if tree.shape != node.shape or not ((tree >= 0) & (tree < 2**31)).all():
        raise Unsuited("its trees are not numbered")
    if not ((node >= 0) & (node < 2**31)).all():
        raise Unsuited("its nodes are not numbered")
    return np.asarray(tree << 31 | node)


def _laid_out(given: dict[str, Any], leaf: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each tree level by level, children side by side: the order, the nodes and the roots."""
    count = len(leaf)
    thresholds = np.array(given["nodes_values"], np.float32)
    features = np.array(given["nodes_featureids"], np.int64)
    strays = 1 - np.array(given.get("nodes_missing_value_tracks_true") or [0] * count, np.int64)
    if not len(thresholds) == len(features) == len(strays) == count:
        raise Unsuited("its trees' lists differ in length")
    if count == 0 or features.min() < 0 or features.max() >= 2**20:
        raise Unsuited("its trees ask for columns that cannot be")
    inner = np.flatnonzero(~leaf)
    names = ("nodes_treeids", "nodes_truenodeids", "nodes_falsenodeids")
    branches = {name: np.array(given[name], np.int64)[inner] for name in names}
    left = np.full(count, -1)
    right = np.full(count, -1)
    for side, name in ((left, names[1]), (right, names[2])):
        asked = {"trees": branches[names[0]], "nodes": branches[name]}
        side[inner] = _positions({**given, **asked}, "trees", "nodes")
    parents = np.bincount(np.concatenate([left[inner], right[inner]]), minlength=count)
    roots = np.flatnonzero(parents == 0)
    if parents.max(initial=0) > 1:
        raise Unsuited("its trees share nodes")
    order: list[int] = []
    starts: list[int] = []
    following = np.arange(count)
    lefts, rights, ends = left.tolist(), right.tolist(), leaf.tolist()
    for root in roots.tolist():
        starts.append(len(order))
        position = len(order)
        order.append(root)
        while position < len(order):
            node = order[position]
            if not ends[node]:
                following[position] = len(order)
                order += (lefts[node], rights[node])
            position += 1
    if len(order) != count:  # what no root leads to runs in a circle
        raise Unsuited("its trees run in a circle")
    nodes = np.zeros(count, NODE)
    placed = np.array(order)
    nodes["threshold"] = np.where(leaf, np.float32(np.inf), thresholds)[placed]
    nodes["feature"] = np.where(leaf, 0, features)[placed]
    nodes["stray"] = np.where(leaf, 0, strays)[placed]
    nodes["next"] = following
    return placed, nodes, np.array(starts)


def _upper_parts(
    nodes: np.ndarray, leaves: np.ndarray, roots: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nodes of each tree that are decided by bits, and where they lead."""
    following, ends = nodes["next"].tolist(), leaves.tolist()
    exits = np.zeros((len(roots), EXITS), np.int32)
    first, tops, keeps = [0], [], []
    for tree, root in enumerate(roots.tolist()):
        # Level by level, until there are as many exits as bits.
        opened: set[int] = set()
        waiting = [root]
        for node in waiting:
            if len(opened) == EXITS - 1:
                break
            if ends[node] < 0:
                opened.add(node)
                waiting += (following[node], following[node] + 1)
        bit = 0
        stack = [(root, -1)]  # a node, or where the bits of what was opened begin
        while stack:
            node, begun = stack.pop()
            if begun >= 0:
                # All that is left of the right child, from here on, has been numbered.
                tops.append(node)
                keeps.append(0xFFFFFFFFFFFFFFFF & ~((1 << bit) - (1 << begun)))
            elif node in opened:
                stack += ((following[node] + 1, -1), (node, bit), (following[node], -1))
            else:
                exits[tree, bit] = ends[node] if ends[node] >= 0 else -1 - node
                bit += 1
        first.append(len(tops))
    upper = np.zeros(len(tops), TOP)
    for field in ("threshold", "feature", "stray"):
        upper[field] = nodes[field][tops]
    upper["keep"] = keeps
    return np.array(first, np.int32), upper, exits
