"""The search for parameters."""

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from timonel.errors import DefinitionError, RunFailed
from timonel.policies import Choice, Float, Grid, Integer, Optuna
from timonel.project import File, Model, Pretrained
from timonel.training import search, work
from timonel.training.search import Fitted, Trial, fit

CLASSES = (0, 1, 2)


def rows(count: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    X = rng.normal(size=(count, 4)) + y[:, None] * 0.8
    return X.astype(np.float32), y


def tree(max_depth: int | None = None, criterion: str = "gini", seed: int = 0) -> Any:
    return DecisionTreeClassifier(max_depth=max_depth, criterion=criterion, random_state=seed)


class Counting(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scaler that counts how often it is fitted."""

    fits = 0

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, X: Any, y: Any = None) -> "Counting":
        Counting.fits += 1
        return self

    def transform(self, X: Any) -> Any:
        return X * self.factor


def counted(max_depth: int = 2, factor: float = 1.0, seed: int = 0) -> Pipeline:
    return make_pipeline(Counting(factor), tree(max_depth, seed=seed))


def model(recipe: Any = tree, **given: Any) -> Model:
    return Model("tree", recipe, **{"folds": 3, **given})


def found(fitted: Fitted) -> list[tuple[Any, ...]]:
    return [
        (trial.number, trial.parameters, trial.fold_scores, trial.state) for trial in fitted.trials
    ]


def test_every_combination_is_tried_on_the_same_folds() -> None:
    X, y = rows()
    grid = Grid(max_depth=[1, 3, None], criterion=["gini", "entropy"])
    fitted = fit(model(search=grid, repeats=2), X, y.tolist(), CLASSES, seed=5, jobs=1)
    assert [trial.parameters for trial in fitted.trials] == [
        {"max_depth": depth, "criterion": criterion}
        for depth, criterion in itertools.product([1, 3, None], ["gini", "entropy"])
    ]
    folds = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=5)
    for trial in fitted.trials:
        expected = cross_val_score(tree(**trial.parameters, seed=5), X, y, cv=folds)
        np.testing.assert_allclose(trial.fold_scores, expected)
        assert trial.score == pytest.approx(expected.mean())
        assert trial.spread == pytest.approx(expected.std(ddof=1))
    assert fitted.score == max(trial.score for trial in fitted.trials)
    whole = tree(**fitted.parameters, seed=5).fit(X, y)
    np.testing.assert_array_equal(fitted.estimator.predict_proba(X), whole.predict_proba(X))


def test_of_equals_the_first_wins() -> None:
    X, y = rows()
    fitted = fit(model(search=Grid(max_depth=[30, 40, 50])), X, y, CLASSES, jobs=1)
    assert fitted.parameters == {"max_depth": 30}


def test_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    given = model(search=Grid(max_depth=[1, 2, 3]), log_models="all", augment=twice)
    monkeypatch.setattr(search, "_WORTH_PROCESSES", 0.0)
    one, two = (fit(given, X, y, CLASSES, seed=1, jobs=jobs) for jobs in (1, 2))
    assert found(one) == found(two)
    for left, right in zip(one.trials, two.trials, strict=True):
        np.testing.assert_array_equal(
            left.estimator.predict_proba(X), right.estimator.predict_proba(X)
        )
    assert two.estimator is two.trials[two.trials.index(max(
        two.trials, key=lambda trial: trial.score))].estimator  # fmt: skip


def test_optuna_finds_the_same_with_any_number_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = rows()
    monkeypatch.setattr(search, "_WORTH_PROCESSES", 0.0)
    space: dict[str, Integer | Float | Choice] = {
        "max_depth": Integer(1, 12),
        "criterion": Choice("gini", "entropy"),
    }
    given = model(search=Optuna(trials=14, space=space))
    one, two = (fit(given, X, y, CLASSES, seed=3, jobs=jobs) for jobs in (1, 2))
    assert found(one) == found(two)
    assert len(one.trials) == 14
    assert {trial.state for trial in one.trials} <= {"complete", "pruned"}


def leafy(leaf: int = 1, seed: int = 0) -> Any:
    return DecisionTreeClassifier(min_samples_leaf=leaf, random_state=seed)


def test_optuna_prunes_what_starts_badly_and_never_picks_it() -> None:
    X, y = rows(300)
    space = {"leaf": Integer(1, 140)}
    fitted = fit(
        model(leafy, search=Optuna(trials=24, space=space), folds=4), X, y, CLASSES, jobs=1
    )
    pruned = [trial for trial in fitted.trials if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.fold_scores) < 4 for trial in pruned)
    assert fitted.score >= max(t.score for t in fitted.trials if t.state == "complete")


def test_optuna_without_pruning_completes_every_trial_in_a_space_of_numbers() -> None:
    X, y = rows()
    search = Optuna(trials=6, space={"C": Float(1e-3, 10.0, log=True)}, prune=False)
    fitted = fit(model(regression, search=search), X, y, CLASSES, jobs=1)
    assert {trial.state for trial in fitted.trials} == {"complete"}
    assert all(1e-3 <= trial.parameters["C"] <= 10.0 for trial in fitted.trials)


def regression(C: float = 1.0) -> Any:  # noqa: N803
    return make_pipeline(StandardScaler(), LogisticRegression(C=C))


def test_leading_steps_that_no_parameter_changes_are_fitted_once_a_fold() -> None:
    X, y = rows()
    Counting.fits = 0
    depths = [1, 2, 3, 4]
    fitted = fit(model(counted, search=Grid(max_depth=depths)), X, y, CLASSES, jobs=1)
    assert Counting.fits == 3 + 1  # a fold each, and the last fit on all rows
    folds = RepeatedStratifiedKFold(n_splits=3, n_repeats=1, random_state=0)
    for trial in fitted.trials:
        expected = cross_val_score(counted(**trial.parameters), X, y, cv=folds)
        np.testing.assert_array_equal(trial.fold_scores, expected)


def test_leading_steps_that_a_parameter_changes_are_fitted_anew() -> None:
    X, y = rows()
    Counting.fits = 0
    fit(model(counted, search=Grid(factor=[1.0, 2.0])), X, y, CLASSES, jobs=1)
    assert Counting.fits == 2 * 3 + 1


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (StandardScaler(), StandardScaler(), True),
        (StandardScaler(), StandardScaler(with_mean=False), False),
        (Counting(np.ones(2000)), Counting(np.ones(2000)), True),  # type: ignore[arg-type]
        (Counting(np.ones(2000)), Counting(np.eye(2000)[0]), False),  # type: ignore[arg-type]
        ([1, {"a": float}], [1, {"a": float}], True),
        (1, True, False),
    ],
)
def test_steps_are_compared_by_all_of_their_parameters(one: Any, other: Any, equal: bool) -> None:
    assert (work.described(one) == work.described(other)) is equal


def test_steps_that_draw_at_random_are_never_taken_for_equal() -> None:
    for value in (RandomForestClassifier(), Counting(lambda: 1)):  # type: ignore[arg-type]
        with pytest.raises(work.NotComparableError):
            work.described(value)


def twice(X: Any, y: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    return np.vstack([X, X + rng.normal(size=X.shape).astype(np.float32)]), np.hstack([y, y])


def test_augmentation_reaches_training_rows_only_and_is_seeded() -> None:
    X, y = rows()
    sizes: list[int] = []

    def noted(X: Any, y: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        sizes.append(len(X))
        return twice(X, y, rng)

    given = model(augment=noted, search=Grid(max_depth=[2, 3]))
    first, second = (fit(given, X, y, CLASSES, seed=2, jobs=1) for _ in range(2))
    assert found(first) == found(second)
    assert sizes == [100, 100, 100, 150] * 2  # each fold once, then all rows
    assert first.estimator.tree_.n_node_samples[0] == 300


def test_validation_rows_score_when_there_are_no_folds() -> None:
    X, y = rows()
    held = rows(60, seed=9)
    fitted = fit(
        model(search=Grid(max_depth=[1, 3]), folds=0), X, y, CLASSES, validation=held, jobs=1
    )
    for trial in fitted.trials:
        expected = tree(**trial.parameters).fit(X, y).score(*held)
        assert trial.fold_scores == [pytest.approx(expected)]
        assert trial.spread == 0.0
    with pytest.raises(DefinitionError, match="there are none"):
        fit(model(folds=0), X, y, CLASSES, jobs=1)


def test_without_a_search_there_is_one_trial_with_the_seed_given() -> None:
    X, y = rows()
    seen: list[Trial] = []
    said: list[tuple[str, float | None]] = []
    fitted = fit(
        model(), X, y, CLASSES, seed=11, jobs=1, on_trial=seen.append,
        report=lambda phrase, share: said.append((phrase, share)),
    )  # fmt: skip
    assert [trial.parameters for trial in seen] == [{}]
    assert fitted.estimator.random_state == 11
    assert fitted.seed == 11
    assert ("trial 1 of 1: " + f"{fitted.score:.4f}", 1.0) in said


def test_a_trial_that_fails_is_told_and_the_others_count() -> None:
    X, y = rows()
    fitted = fit(model(search=Grid(criterion=["nonsense", "gini"])), X, y, CLASSES, jobs=1)
    assert [trial.state for trial in fitted.trials] == ["failed", "complete"]
    assert "nonsense" in (fitted.trials[0].error or "")
    with pytest.raises(RunFailed, match="all 1 failed"):
        fit(model(search=Grid(criterion=["nonsense"])), X, y, CLASSES, jobs=1)


def test_what_cannot_be_searched_is_a_sentence() -> None:
    X, y = rows()
    with pytest.raises(DefinitionError, match="choose luck"):
        fit(model(search=Grid(seed=[1, 2, 3])), X, y, CLASSES, jobs=1)
    with pytest.raises(DefinitionError, match="among 0, 1, got 2"):
        fit(model(), X, y, (0, 1), jobs=1)
    with pytest.raises(RunFailed, match="at least two classes"):
        fit(model(), X, np.zeros(len(X), int), CLASSES, jobs=1)
    with pytest.raises(RunFailed, match="enough for 3 folds"):
        fit(model(), X[:2], [0, 1], CLASSES, jobs=1)
    with pytest.raises(DefinitionError, match="is not trained"):
        fit(Model("p", Pretrained(file=File("x.onnx"))), X, y, CLASSES)


def test_a_rare_class_is_reported_and_the_folds_go_on() -> None:
    X, _ = rows(60)
    y = np.array([0, 1] * 29 + [2, 2])
    said: list[str] = []
    fit(model(), X, y, CLASSES, jobs=1, report=lambda phrase, _: said.append(phrase))
    assert "only 2 rows" in said[0]


def test_text_labels_and_frames_work() -> None:
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    def recipe(C: float = 1.0) -> Any:  # noqa: N803
        encode = ColumnTransformer([("sex", OneHotEncoder(handle_unknown="ignore"), ["sex"])])
        return Pipeline([("encode", encode), ("model", LogisticRegression(C=C))])

    X = pd.DataFrame({"sex": pd.Series(["m", "f"] * 30, dtype=object)})
    y = np.array(["no", "yes"] * 30, dtype=object)
    fitted = fit(model(recipe, search=Grid(C=[0.1, 1.0])), X, y.tolist(), ("no", "yes"), jobs=1)
    assert fitted.score == 1.0
    assert fitted.estimator.predict(X[:2]).tolist() == ["no", "yes"]


def test_little_is_kept_when_folds_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_KEPT_BYTES", 1)
    X, y = rows()
    Counting.fits = 0
    fit(model(counted, search=Grid(max_depth=[1, 2])), X, y, CLASSES, jobs=1)
    assert Counting.fits == 2 * 3 + 1
