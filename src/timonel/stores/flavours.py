"""MLflow's model folders: written so that any MLflow loads them, read so that none runs code."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timonel.errors import ArtifactError, StoreError

if TYPE_CHECKING:
    from timonel.schema import Column
    from timonel.signature import Binding

__all__ = ["read_model", "save_estimator", "save_onnx", "trusted_types"]

# What a model may hold; a file never says this itself. A class is only filled with data when it is
# loaded; what runs other code, as some helpers of tests do, is left out.
_TRUSTED = ("sklearn.", "numpy.dtype", "numpy.random.")
_NEVER = ("sklearn.datasets.", "sklearn.externals.", "sklearn.utils._testing.")


def save_estimator(
    estimator: Any, columns: Sequence["Column"], folder: Path, known: list[str] | None = None
) -> list[str]:
    """Write a fitted scikit-learn estimator with skops; the trusted types that its file names.

    `known` are those of an estimator that is alike: finding them out costs as much as saving.

    Raises:
        StoreError: it holds types other than scikit-learn's and numpy's.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.sklearn import save_model

    def save(trusted: list[str]) -> None:
        save_model(
            estimator,
            folder,
            serialization_format="skops",
            skops_trusted_types=trusted,
            signature=_signature(columns, estimator.classes_),
            pip_requirements=_requirements("scikit-learn", "skops", "numpy", "pandas"),
        )

    if known is not None:
        # What is missing from the list makes MLflow's own check fail, never pass.
        try:
            save(known)
        except MlflowException:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return known
    found = trusted_types(estimator)
    save(found)
    return found


def save_onnx(
    content: bytes, columns: Sequence["Column"], binding: "Binding", folder: Path
) -> None:
    """Write an ONNX file as a model of MLflow's."""
    import onnx
    from mlflow.onnx import save_model

    save_model(
        onnx.load_model_from_string(content),
        folder,
        signature=_onnx_signature(columns, binding),
        pip_requirements=_requirements("onnx", "onnxruntime", "numpy", "pandas"),
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )


def read_model(folder: Path, *, allow_pickle: bool = False) -> Any:
    """The model in a folder of MLflow's: an estimator, or the bytes of an ONNX file.

    Scikit-learn's are read with skops and our own list of types; what the folder says may be
    trusted counts for nothing. `allow_pickle` also unpickles, which runs whatever the file says.

    Raises:
        ArtifactError: it is of no kind that can be read safely, or damaged; says which.
    """
    from mlflow.models import Model

    try:
        flavours: dict[str, dict[str, Any]] = Model.load(str(folder)).flavors
    except Exception as error:  # MLflow, YAML and the disk each have their own
        raise ArtifactError(f"Expected a model of MLflow's, got: {_first(error)}.") from error
    if "sklearn" in flavours:
        flavour = flavours["sklearn"]
        file = _inside(folder, flavour.get("pickled_model", "model.pkl"))
        kind = flavour.get("serialization_format", "pickle")
        if kind == "skops":
            return _read_skops(file)
        return _unpickle(file, kind, allow_pickle=allow_pickle)
    if "onnx" in flavours:
        return _inside(folder, flavours["onnx"].get("data", "model.onnx")).read_bytes()
    found = ", ".join(sorted(flavours)) or "none"
    raise ArtifactError(
        f"Expected a model of flavour sklearn or onnx, got {found}.",
        remedy="Log it with mlflow.sklearn (skops) or mlflow.onnx, and register that.",
    )


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise ArtifactError(f"Expected the model's file {name} in its folder, got no such file.")
    return path


def _read_skops(file: Path) -> Any:
    from skops.io import get_untrusted_types, load

    try:
        asked: list[str] = get_untrusted_types(file=file)
        strange = _strange(asked)
        if not strange:
            return load(file, trusted=asked)
    except Exception as error:  # skops' errors share no public base
        raise ArtifactError(
            f"Expected a model written with skops, got {type(error).__name__}: {_first(error)}."
        ) from error
    raise ArtifactError(
        f"Expected a model made of scikit-learn's and numpy's types, got {strange[0]}, which may "
        "run code of its own when it is loaded.",
        remedy="Use scikit-learn's own transformers, or log the model as ONNX.",
    )


def _unpickle(file: Path, kind: str, *, allow_pickle: bool) -> Any:
    if not allow_pickle:
        raise ArtifactError(
            f"Expected a model written with skops or as ONNX, got a {kind} file: loading it runs "
            "whatever code it holds, with all that this process may do.",
            remedy="Log it again with mlflow.sklearn.log_model(…, serialization_format='skops'); "
            "or, if you trust who made it: timonel adopt PROJECT/MODEL@N --allow-pickle",
        )
    import pickle

    try:
        with file.open("rb") as stream:
            # cloudpickle's files are pickles that import it themselves.
            return pickle.load(stream)  # noqa: S301 (a person asked for it by name)
    except Exception as error:  # a pickle may raise anything
        raise ArtifactError(
            f"Expected a {kind} file, got {type(error).__name__}: {_first(error)}."
        ) from error


def trusted_types(estimator: Any) -> list[str]:
    """The types in an estimator that skops asks about, all of which are on our list.

    Raises:
        StoreError: naming those that are not.
    """
    from skops.io import dumps, get_untrusted_types

    try:
        found: list[str] = get_untrusted_types(data=dumps(estimator))
    except Exception as error:  # skops' errors share no public base
        raise StoreError(
            f"Expected an estimator that can be written with skops, got "
            f"{type(error).__name__}: {error}"
        ) from error
    if strange := _strange(found):
        raise StoreError(
            f"Expected an estimator made of scikit-learn's and numpy's types, got {strange[0]}.",
            remedy="Log the exported ONNX model instead, or use scikit-learn's own transformers.",
        )
    return found


def _strange(names: Sequence[str]) -> list[str]:
    return [name for name in names if not name.startswith(_TRUSTED) or name.startswith(_NEVER)]


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _signature(columns: Sequence["Column"], classes: Any) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    labels = DataType.long if np.asarray(classes).dtype.kind in "iu" else DataType.string
    outputs = Schema([ColSpec(labels)])
    image = columns[0].image
    if image is not None:
        spec = TensorSpec(np.dtype(np.float32), (-1, image.size))
        return ModelSignature(Schema([spec]), outputs)
    # MLflow refuses whole numbers where a signature says double, and people write 4000.
    anything = AnyType()  # type: ignore[no-untyped-call]
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(
            DataType.string if column.kind == "category" else anything,
            column.name,
            required=not column.nullable,
        )
        for column in columns
    ]
    return ModelSignature(Schema(inputs), outputs)


def _onnx_signature(columns: Sequence["Column"], binding: "Binding") -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    if binding.layout == "columns":
        return ModelSignature(
            Schema(
                [
                    TensorSpec(
                        np.dtype(np.str_ if column.kind == "category" else np.float32),
                        (-1, 1),
                        name=name,
                    )
                    for name, column in zip(binding.inputs, columns, strict=True)
                ]
            )
        )
    rows = -1 if binding.batch else 1
    shape = binding.shape if binding.layout == "image" else (len(columns),)
    return ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (rows, *shape), name=binding.inputs[0])])
    )


def _requirements(*packages: str) -> list[str]:
    from importlib.metadata import version

    return [f"{package}=={version(package)}" for package in ("mlflow", *packages)]
