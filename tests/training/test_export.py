"""Estimators as ONNX, and files as models."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from timonel.errors import DefinitionError, ParityError
from timonel.project import File, Pretrained
from timonel.runtime import OnnxModel
from timonel.schema import Column, Image, Pixels, columns_of
from timonel.signature import Binding, Signature
from timonel.tensors import Arrays, arrays_of
from timonel.training import export
from timonel.training.design import design_matrix
from timonel.training.export import Exported, parity, pretrained, to_onnx


class Numbers(BaseModel):
    a: float
    b: float
    c: int


class Passenger(BaseModel):
    age: float | None
    sex: Literal["male", "female"]
    port: str | None


class Digit(BaseModel):
    pixels: Annotated[Pixels, Image(28, 28)]


class Small(BaseModel):
    pixels: Annotated[Pixels, Image(3, 3)]


NUMBERS, PASSENGER = columns_of(Numbers), columns_of(Passenger)
DIGIT, SMALL = columns_of(Digit), columns_of(Small)


def numbers(rows: int = 200, classes: int = 3, seed: int = 0) -> tuple[Arrays, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    values = {name: (rng.normal(size=rows) + y).tolist() for name in "abc"}
    return arrays_of(NUMBERS, values), y


def fitted(estimator: Any, columns: tuple[Column, ...], arrays: Arrays, y: Any) -> Any:
    return estimator.fit(design_matrix(columns, arrays), y)


def answers(found: Exported, columns: tuple[Column, ...], arrays: Arrays) -> Any:
    signature = Signature("p", "m", columns, "y", found.classes, found.binding)
    return OnnxModel(found.content, signature).predict(arrays)


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(20, random_state=0),
        DecisionTreeClassifier(random_state=0),
        GradientBoostingClassifier(n_estimators=5, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        LinearDiscriminantAnalysis(),
        KNeighborsClassifier(3),
        make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=500, tol=0.01)),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("classes", [2, 3])
def test_numbers_answer_as_the_estimator_does(estimator: Any, classes: int) -> None:
    arrays, y = numbers(classes=classes)
    found = to_onnx(fitted(estimator, NUMBERS, arrays, y), NUMBERS, arrays)
    assert found.binding.layout == "matrix"
    assert found.classes == tuple(range(classes))
    assert found.parity.rows == 200
    assert found.parity.largest is not None
    assert found.parity.largest < 1e-5


def test_text_and_missing_values_go_in_as_they_are() -> None:
    arrays = arrays_of(
        PASSENGER,
        {
            "age": [22.0, None, 40.0, 3.0] * 20,
            "sex": ["male", "female"] * 40,
            "port": ["S", None, "C", "Q"] * 20,
        },
    )
    encode = ColumnTransformer(
        [
            ("age", SimpleImputer(strategy="median"), ["age"]),
            ("text", OneHotEncoder(handle_unknown="ignore"), ["sex", "port"]),
        ]
    )
    y = np.array(["yes", "no", "no", "yes"] * 20)
    estimator = fitted(
        Pipeline([("encode", encode), ("model", LogisticRegression())]), PASSENGER, arrays, y
    )
    found = to_onnx(estimator, PASSENGER, arrays)
    assert found.binding.inputs == ("age", "sex", "port")
    assert found.classes == ("no", "yes")
    unseen = arrays_of(PASSENGER, {"age": [9.0], "sex": ["male"], "port": ["elsewhere"]})
    indices, probabilities = answers(found, PASSENGER, unseen)
    expected = estimator.predict_proba(design_matrix(PASSENGER, unseen))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert indices.tolist() == expected.argmax(axis=1).tolist()


def test_pictures_are_one_input_of_their_size() -> None:
    rng = np.random.default_rng(0)
    arrays = {"pixels": rng.integers(0, 256, (60, 9)).astype(np.float32)}
    y = (arrays["pixels"][:, 0] > 127).astype(int)
    found = to_onnx(fitted(RandomForestClassifier(5), SMALL, arrays, y), SMALL, arrays)
    assert found.binding.inputs == ("pixels",)
    assert found.binding.shape == (9,)


def test_classes_are_the_estimators_own() -> None:
    arrays, y = numbers(classes=2)
    found = to_onnx(fitted(DecisionTreeClassifier(), NUMBERS, arrays, 5 - y * 4), NUMBERS, arrays)
    assert found.classes == (1, 5)


@pytest.mark.parametrize("kind", [LinearSVC, SGDClassifier])
def test_an_estimator_without_probabilities_answers_labels_only(kind: Any) -> None:
    arrays, y = numbers()
    estimator = fitted(kind(random_state=0), NUMBERS, arrays, y)
    found = to_onnx(estimator, NUMBERS, arrays)
    assert found.binding.scores is None
    assert found.parity.largest is None
    indices, _ = answers(found, NUMBERS, arrays)
    np.testing.assert_array_equal(indices, estimator.predict(design_matrix(NUMBERS, arrays)))
    arrays, y = numbers(classes=2)
    assert to_onnx(fitted(kind(), NUMBERS, arrays, y), NUMBERS, arrays).parity.rows == 200


@pytest.mark.parametrize("piped", [False, True])
def test_a_binary_lda_is_exact_and_the_check_would_catch_it(
    piped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, y = numbers(classes=2)
    lda = LinearDiscriminantAnalysis()
    estimator = fitted(make_pipeline(StandardScaler(), lda) if piped else lda, NUMBERS, arrays, y)
    found = to_onnx(estimator, NUMBERS, arrays)
    assert (found.parity.largest or 0) < 1e-5
    monkeypatch.setattr(export, "_exact", lambda estimator: estimator)
    with pytest.raises(ParityError, match="The worst:") as caught:
        to_onnx(estimator, NUMBERS, arrays)
    assert str(caught.value).count("  row ") == 5
    assert "a=" in str(caught.value)


def test_other_labels_are_refused_and_shown() -> None:
    arrays, y = numbers()
    one = fitted(DecisionTreeClassifier(), NUMBERS, arrays, y)
    other = fitted(DecisionTreeClassifier(), NUMBERS, arrays, (y + 1) % 3)
    found = to_onnx(one, NUMBERS, arrays)
    with pytest.raises(ParityError, match="got 200 rows"):
        parity(other, found.content, found.binding, NUMBERS, arrays)


def test_exact_ties_may_go_either_way() -> None:
    arrays, y = numbers(classes=2)
    found = to_onnx(fitted(DecisionTreeClassifier(), NUMBERS, arrays, y), NUMBERS, arrays)

    class Undecided:
        classes_ = np.array([0, 1])

        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.asarray(1 - y[: len(X)])

        def decision_function(self, X: np.ndarray) -> np.ndarray:
            return np.zeros(len(X))

    without = Binding("matrix", found.binding.inputs, scores=None)
    assert parity(Undecided(), found.content, without, NUMBERS, arrays).ties == 200


def test_no_rows_prove_nothing() -> None:
    arrays, y = numbers()
    estimator = fitted(DecisionTreeClassifier(), NUMBERS, arrays, y)
    with pytest.raises(ParityError, match="got none"):
        to_onnx(estimator, NUMBERS, {name: values[:0] for name, values in arrays.items()})


class Strange(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """One that nobody can convert."""

    def fit(self, X: Any, y: Any) -> "Strange":
        self.classes_ = np.unique(y)
        return self


def test_what_does_not_convert_is_a_sentence() -> None:
    arrays, y = numbers()
    with pytest.raises(ParityError, match="Strange to convert to ONNX"):
        to_onnx(fitted(Strange(), NUMBERS, arrays, y), NUMBERS, arrays)


def given(**more: Any) -> Pretrained:
    return Pretrained(file=File("model.onnx"), **more)


@pytest.mark.parametrize(
    ("path", "high"),
    [("models/mnist-8.onnx", 255.0), ("digits_original/mnist-12-int8.onnx", 1.0)],
)
def test_real_pretrained_files_are_read_from_themselves(
    test_data: Path, path: str, high: float
) -> None:
    content = (test_data / path).read_bytes()
    binding = pretrained(content, given(high=high, logits=True), DIGIT, tuple(range(10)))
    assert binding.layout == "image"
    assert binding.shape == (1, 28, 28)
    assert binding.batch is False
    assert binding.label is None
    assert binding.logits
    signature = Signature("digits", "cnn", DIGIT, "digit", tuple(range(10)), binding)
    rng = np.random.default_rng(0)
    arrays = {"pixels": rng.integers(0, 256, (2, 784)).astype(np.float32)}
    _, probabilities = OnnxModel(content, signature).predict(arrays)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    with pytest.raises(DefinitionError, match="9 scores"):
        pretrained(content, given(), DIGIT, tuple(range(9)))
    with pytest.raises(DefinitionError, match="input of 9 numbers"):
        pretrained(content, given(), SMALL, tuple(range(10)))
    with pytest.raises(DefinitionError, match="'nothing' for scores"):
        pretrained(content, given(scores="nothing"), DIGIT, tuple(range(10)))


def test_our_own_exports_are_pretrained_files_too() -> None:
    arrays, y = numbers()
    found = to_onnx(fitted(DecisionTreeClassifier(), NUMBERS, arrays, y), NUMBERS, arrays)
    binding = pretrained(found.content, given(label="label"), NUMBERS, (0, 1, 2))
    assert binding.batch
    assert binding.scores == "probabilities"
    assert binding.shape == ()
    with pytest.raises(DefinitionError, match="one input a feature"):
        pretrained(found.content, given(), PASSENGER, (0, 1, 2))


def test_a_file_with_an_input_a_column_is_bound_by_name() -> None:
    arrays = arrays_of(
        PASSENGER, {"age": [1.0, 2.0], "sex": ["male", "female"], "port": ["a", "b"]}
    )
    encode = ColumnTransformer(
        [("text", OneHotEncoder(), ["sex", "port"])], remainder="passthrough"
    )
    pipeline = Pipeline([("encode", encode), ("model", LogisticRegression())])
    found = to_onnx(fitted(pipeline, PASSENGER, arrays, [0, 1]), PASSENGER, arrays)
    binding = pretrained(found.content, given(label="label"), PASSENGER, (0, 1))
    assert binding.inputs == ("age", "sex", "port")


def test_a_file_without_scores_needs_its_label_named() -> None:
    arrays, y = numbers()
    content = to_onnx(fitted(LinearSVC(), NUMBERS, arrays, y), NUMBERS, arrays).content
    assert pretrained(content, given(label="label"), NUMBERS, (0, 1, 2)).scores is None
    with pytest.raises(DefinitionError, match="one float output"):
        pretrained(content, given(), NUMBERS, (0, 1, 2))


def test_what_is_no_onnx_file_is_a_sentence() -> None:
    with pytest.raises(DefinitionError, match=r"model\.onnx: Expected an ONNX model"):
        pretrained(b"nonsense", given(), NUMBERS, (0, 1))
