"""The choices of a definition that have sane defaults: frozen data, and nothing that acts.

A policy is checked when it is made, so that a wrong one fails where it is written.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from timonel.errors import DefinitionError

__all__ = [
    "Cache",
    "Choice",
    "Drift",
    "Float",
    "Gate",
    "Grid",
    "Integer",
    "Layout",
    "Optuna",
    "Quality",
    "Retention",
    "Retrain",
    "Search",
    "Split",
    "Tables",
]

_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

_SEASONS = ("month", "weekday", "hour")
_MATTERS = {"wasserstein": 0.1, "ks": 0.1, "js": 0.1, "psi": 0.1, "chi2": 0.1, "share": 0.05}


def _within(owner: str, name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise DefinitionError(
            f"{owner}: expected {name} between {low:g} and {high:g}, got {value!r}.",
            remedy=f"Give {owner}({name}=…) a value in that range.",
        )


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which rows train, select and judge: decided by a hash of each row's key.

    `test` and `validation` are shares of the rows (0..1). `key` names the columns that identify a
    row (default: all columns, so equal rows fall on the same side). `given` names a column of the
    source that already says `train` or `test`; its test rows stay test rows.
    """

    test: float = 0.2
    validation: float = 0.1
    key: tuple[str, ...] = ()
    given: str | None = None

    def __post_init__(self) -> None:
        _within("Split", "test", self.test, 0.0, 0.9)
        _within("Split", "validation", self.validation, 0.0, 0.9)
        _within("Split", "test + validation", self.test + self.validation, 0.0, 0.95)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What is asked of the rows before anything is trained on them.

    `max_refused` is the share of rows (0..1) that may be refused before the run stops; `min_rows`
    the least number that must be left. `duplicates`: `drop` keeps the first of rows that are equal
    in `key` (default: all columns), `refuse` counts the others as refused, `keep` leaves them.
    """

    max_refused: float = 0.05
    min_rows: int = 20
    duplicates: Literal["drop", "refuse", "keep"] = "drop"
    key: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _within("Quality", "max_refused", self.max_refused, 0.0, 1.0)
        _within("Quality", "min_rows", self.min_rows, 1, 2**53)
        if self.duplicates not in ("drop", "refuse", "keep"):
            raise DefinitionError(
                f"Quality: expected duplicates to be drop, refuse or keep, got {self.duplicates!r}."
            )


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The offline check of law 12: a candidate must not be worse than the champion.

    `floor`: least value of the metric, for a first version too. `margin`: how much worse (in the
    metric's units) the lower end of the paired interval may be, over all held-out rows;
    `class_margin` the same for each class's recall, in classes with at least `class_rows` rows.
    `stability`: how many times wider than the champion's the spread over folds may be.
    `superiority` asks for better instead of not worse. `confidence`: of the one-sided interval.
    `retries`: how many further runs, with new seeds, a refused run may start. Where `recent` or
    more held-out rows are labelled live ones, these are judged first, and a version that is clearly
    better on them may be worse by `past` (default: `margin`) on the others.
    """

    floor: float | None = None
    margin: float = 0.02
    class_margin: float = 0.05
    class_rows: int = 100
    stability: float = 3.0
    superiority: bool = False
    confidence: float = 0.95
    retries: int = 0
    recent: int = 100
    past: float | None = None

    def __post_init__(self) -> None:
        _within("Gate", "margin", self.margin, 0.0, 1.0)
        _within("Gate", "class_margin", self.class_margin, 0.0, 1.0)
        _within("Gate", "class_rows", self.class_rows, 1, 2**53)
        _within("Gate", "stability", self.stability, 1.0, 1e6)
        _within("Gate", "confidence", self.confidence, 0.5, 0.9999)
        _within("Gate", "retries", self.retries, 0, 10)
        _within("Gate", "recent", self.recent, 1, 2**53)
        if self.past is not None:
            _within("Gate", "past", self.past, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Equal requests to the same version get the answer that was computed for the first of them.

    An answer is kept for `ttl` seconds. `most` is how many each serving process keeps in memory;
    with TIMONEL_ANSWERS they are in Redis, which has bounds of its own.
    """

    ttl: float = 3600.0
    most: int = 10_000

    def __post_init__(self) -> None:
        _within("Cache", "ttl", self.ttl, 0.001, 366 * 86_400)
        _within("Cache", "most", self.most, 1, 10_000_000)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """When live rows are compared with those that a version was made from, and what alarms.

    Every `every` seconds the last `window` rows are compared. `alarm` is the chance that a window
    without drift alarms, over all columns together. `number` and `category` name the statistic
    that decides; `matters` the least effect, by statistic, that is worth an alarm: of `wasserstein`
    in standard deviations (0.1), of `ks` and `share` (of missing or unseen values) as a share
    (0.1, 0.05), of `js` (0.1), `psi` (0.1) and `chi2` (w, 0.1) in their own units.

    Columns in `exclude` are shown, and never alarm: those of a calendar move by themselves. Those
    in `season` are compared with reference rows of the same `month`, `weekday` or `hour` instead.
    `dated` names a column of the source with the time of each row; `ordered` says that rows come
    in order of time without one. With either, a window is held to what as many neighbouring rows
    of the reference do, since real traffic is not shuffled.
    """

    every: float = 21_600.0
    window: int = 1_000
    alarm: float = 0.01
    number: Literal["wasserstein", "ks", "js", "psi"] = "wasserstein"
    category: Literal["js", "chi2", "psi"] = "js"
    matters: Mapping[str, float] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    season: Mapping[str, Literal["month", "weekday", "hour"]] = field(default_factory=dict)
    dated: str | None = None
    ordered: bool = False

    def __post_init__(self) -> None:
        _within("Drift", "every", self.every, 1, 366 * 86_400)
        _within("Drift", "window", self.window, 10, 10_000_000)
        _within("Drift", "alarm", self.alarm, 1e-4, 0.5)
        for name, given, known in (
            ("number", self.number, ("wasserstein", "ks", "js", "psi")),
            ("category", self.category, ("js", "chi2", "psi")),
            *((f"matters[{key!r}]", key, tuple(_MATTERS)) for key in self.matters),
            *((f"season[{key!r}]", self.season[key], _SEASONS) for key in self.season),
        ):
            if given not in known:
                raise DefinitionError(
                    f"Drift: expected {name} to be one of {', '.join(known)}, got {given!r}."
                )
        for key, least in self.matters.items():
            _within("Drift", f"matters[{key!r}]", least, 0.0, 1e6)
        if self.season and not self.dated:
            raise DefinitionError(
                "Drift: expected dated to name a column of the source when there are seasons.",
                remedy='Write Drift(season=…, dated="…").',
            )

    def least(self, statistic: str) -> float:
        """The least effect of a statistic that is worth an alarm."""
        return self.matters.get(statistic, _MATTERS[statistic])

    @property
    def false_alarms_a_week(self) -> float:
        """How many alarms a week are to be expected where nothing drifts."""
        return self.alarm * 7 * 86_400 / self.every


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """When a project is trained anew by itself, and on which rows; by default it never is.

    `on` says what calls for it: `drift` in `windows` windows in a row, of a severity (distance over
    threshold) of at least `severity` in each; `accuracy` on labelled live rows that is surely
    `drop` below that on held-out rows; `labels` for `labels` more rows since it was last trained;
    or the `schedule`, every `every` seconds.

    It waits until `rows` live rows have a label since what called for it began, until `cooldown`
    seconds after the last run, and while the week's budget of `runs` runs or `minutes` minutes is
    used up.

    `data` is what it is trained on: the source's rows and the labelled live ones of the last
    `back` seconds (`reference+window`), the live ones only (`window`), or the source's only, read
    anew (`reference`), which needs no labelled rows. With `half_life` (seconds), of training rows
    that old every second one is left out, of those twice as old three of four; how old they are is
    told by `Drift(dated=…)`.
    """

    on: tuple[Literal["drift", "accuracy", "labels", "schedule"], ...] = ()
    severity: float = 1.0
    windows: int = 2
    drop: float = 0.05
    labels: int = 1_000
    every: float = 2_592_000.0
    rows: int = 200
    cooldown: float = 86_400.0
    runs: int = 3
    minutes: float = 600.0
    data: Literal["reference+window", "window", "reference"] = "reference+window"
    back: float = 2_592_000.0
    half_life: float | None = None

    def __post_init__(self) -> None:
        known = ("drift", "accuracy", "labels", "schedule")
        if not isinstance(self.on, tuple | list) or not set(self.on) <= set(known):
            raise DefinitionError(
                f"Retrain: expected on to be some of {', '.join(known)}, got {self.on!r}.",
                remedy='Write Retrain(on=("drift", …)).',
            )
        if self.data not in ("reference+window", "window", "reference"):
            raise DefinitionError(
                "Retrain: expected data to be reference+window, window or reference, "
                f"got {self.data!r}."
            )
        for name, low, high in (
            ("severity", 0.0, 1e6),
            ("windows", 1, 1_000),
            ("drop", 0.0, 1.0),
            ("labels", 1, 2**53),
            ("every", 1, 3_660 * 86_400),
            ("rows", 1, 2**53),
            ("cooldown", 0, 366 * 86_400),
            ("runs", 0, 10_000),
            ("minutes", 0, 1e6),
            ("back", 1, 3_660 * 86_400),
        ):
            _within("Retrain", name, getattr(self, name), low, high)
        if self.half_life is not None:
            _within("Retrain", "half_life", self.half_life, 1, 3_660 * 86_400)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long what was asked and answered is kept, in seconds from the prediction on.

    `segments` are the answers with their inputs, `labels` what was true of them, `datasets` what
    was collected of both to train on, by its newest row. None keeps for ever. What an active
    rollout looks at stays, and what a version that serves or stands by was trained on.
    """

    segments: float | None = None
    labels: float | None = None
    datasets: float | None = None

    def __post_init__(self) -> None:
        for name in ("segments", "labels", "datasets"):
            if (given := getattr(self, name)) is not None:
                _within("Retention", name, given, 3_600, 3_660 * 86_400)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Named copies of a run's rows in the object store, for notebooks and other tools.

    The folder `data` of the store (the bucket, where there are buckets) gets `<folder>/<name>.csv`,
    the rows as their source gave them; `<folder>/<name>_preprocessed.csv`, the features and the
    target; `<folder>/final/` with `X_train.csv`, `X_test.csv`, `y_train.csv` and `y_test.csv`;
    and, last, `<info>/data.json`: the columns and, of texts and `codes`, their values.

    `transformation` returns an unfitted scikit-learn transformer: the X of `final/` are then what
    it makes of them, and the fitted one is `<info>/pipeline.skops`. `codes` are whole numbers that
    are names and not quantities.
    """

    folder: str
    info: str
    name: str
    transformation: Callable[[], Any] | None = None
    codes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for where in ("folder", "info", "name"):
            given = getattr(self, where)
            if not _PATH.fullmatch(given) or (where == "name" and "/" in given):
                raise DefinitionError(
                    f"Layout: expected {where} to be made of letters, digits, _, . and -"
                    f"{'' if where == 'name' else ', with / between folders'}, got {given!r}."
                )


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Copies of a run's rows as tables of the state database, for whoever asks in SQL.

    `raw` has the rows as their source gave them, holes included; `processed` what `prepare` made of
    them, and is what the run goes on with. Each run replaces them. Their first column, `row_id`,
    keeps the order of the rows.
    """

    raw: str | None = None
    processed: str | None = None

    def __post_init__(self) -> None:
        names = [name for name in (self.raw, self.processed) if name is not None]
        for name in names:
            if not name.isidentifier() or len(name) > 63:
                raise DefinitionError(
                    "Tables: expected names of letters, digits and _, up to 63 characters, "
                    f"got {name!r}."
                )
        if len(set(names)) < len(names):
            raise DefinitionError(f"Tables: expected two names, got {names[0]!r} twice.")


@dataclass(frozen=True)
class Integer:
    """A whole number in `low`..`high`, both included; `log` searches its logarithm."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Float:
    """A number in `low`..`high`; `log` searches its logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, init=False)
class Choice:
    """One of the given values."""

    values: tuple[object, ...]

    def __init__(self, *values: object) -> None:
        object.__setattr__(self, "values", values)


@dataclass(frozen=True, init=False)
class Grid:
    """Every combination of the given values: `Grid(max_depth=[3, None], criterion=["gini"])`.

    The names are parameters of the recipe.
    """

    space: Mapping[str, Sequence[object]]

    def __init__(self, **space: Sequence[object]) -> None:
        for name, values in space.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise DefinitionError(
                    f"Grid: expected a list of values for {name}, got {values!r}.",
                    remedy=f"Write Grid({name}=[…]).",
                )
        object.__setattr__(self, "space", dict(space))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The recipe's parameters that are searched."""
        return tuple(self.space)


@dataclass(frozen=True, kw_only=True)
class Optuna:
    """A search by TPE with pruning: `Optuna(trials=30, space={"max_depth": Integer(2, 40)})`."""

    space: Mapping[str, Integer | Float | Choice] = field(default_factory=dict)
    trials: int = 30
    prune: bool = True

    def __post_init__(self) -> None:
        _within("Optuna", "trials", self.trials, 1, 100_000)
        for name, dimension in self.space.items():
            if not isinstance(dimension, Integer | Float | Choice):
                raise DefinitionError(
                    f"Optuna: expected Integer, Float or Choice for {name}, got {dimension!r}."
                )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The recipe's parameters that are searched."""
        return tuple(self.space)


Search = Grid | Optuna
