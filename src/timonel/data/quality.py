"""Quality: rows judged against the project's types; refused rows are kept with the reason."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from timonel.data.repeats import spread
from timonel.data.split import SIDES
from timonel.errors import DataRefused
from timonel.policies import Quality
from timonel.project import Project
from timonel.schema import Column

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Checked", "Problem", "Report", "check", "examine"]

_EXAMPLES = 3
_WIDTH = 60  # characters of a value that are shown
_EXACT = 2.0**53  # beyond this a float64 no longer holds every whole number


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one column: in how many `rows`, and the first values there.

    For duplicates `column` lists the columns that were compared.
    """

    column: str
    problem: Literal["missing", "not allowed", "duplicate"]
    expected: str
    rows: int
    examples: tuple[str, ...] = ()

    def sentence(self) -> str:
        """It as a phrase."""
        if self.problem == "duplicate":
            return f"duplicate {self.rows:,}"
        got = f", got {', '.join(self.examples)}" if self.examples else ""
        return f"{self.column} {self.problem} {self.rows:,} (expected {self.expected}{got})"


@dataclass(frozen=True)
class Report:
    """What was found: of `rows`, how many are `kept`, `refused` or `dropped` (as duplicates).

    A row with several problems is counted in each of `problems`, and once in `refused`.
    """

    rows: int
    kept: int
    refused: int
    dropped: int
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**asdict(self), "problems": [asdict(problem) for problem in self.problems]}

    def sentence(self) -> str:
        """It for a person."""
        text = f"{self.rows:,} rows: {self.kept:,} kept, {self.refused:,} refused"
        if self.dropped:
            text += f", {self.dropped:,} dropped as duplicates"
        reasons = [p.sentence() for p in self.problems if p.problem != "duplicate" or self.refused]
        return text + (f": {'; '.join(reasons)}." if reasons and self.refused else ".")


@dataclass(frozen=True)
class Checked:
    """Rows fit for training, the refused ones as they came plus their `reason`, and the report.

    `frame` has the features in their final types (number Float64, integer Int64, boolean Boolean,
    category String, or Categorical where it came so, image Binary), the target, and the columns
    that the split needs.
    """

    frame: "pl.DataFrame"
    refused: "pl.DataFrame"
    report: Report

    def demand(self, quality: Quality) -> None:
        """Raise DataRefused when more was refused, or less is left, than the policy allows."""
        report = self.report
        share = report.refused / report.rows if report.rows else 0.0
        if share > quality.max_refused:
            raise DataRefused(
                f"Expected at most {quality.max_refused:.1%} of the rows to be refused, got "
                f"{share:.1%}. {report.sentence()}",
                remedy="Correct the source or the features, or raise Quality(max_refused=…).",
            )
        if report.kept < quality.min_rows:
            raise DataRefused(
                f"Expected at least {quality.min_rows:,} rows, got {report.kept:,}. "
                f"{report.sentence()}",
                remedy="Give the source more rows, or lower Quality(min_rows=…).",
            )


def check(frame: "pl.DataFrame", project: Project) -> Checked:
    """Judge the rows, and stop when they are worse than the project's policy allows.

    Raises:
        DataRefused: a column is missing, too many rows were refused, or too few are left.
    """
    checked = examine(frame, project)
    checked.demand(project.quality)
    return checked


def examine(frame: "pl.DataFrame", project: Project) -> Checked:
    """Judge the rows without a limit.

    A value is cast when nothing is lost: the text `3.5` to a number, 3.0 to a whole number, `true`
    or 1 to a boolean. An empty text, and NaN in a column of floats, are missing.

    Raises:
        DataRefused: a column is missing from the frame.
    """
    import polars as pl

    quality, split = project.quality, project.split
    judged = (*project.columns, _target(project, frame))
    if split.given and split.given not in {column.name for column in judged}:
        judged = (*judged, Column(split.given, "category", categories=SIDES))
    names = [column.name for column in judged]
    dated = (project.drift.dated,) if project.drift.dated else ()
    kept = [name for name in dict.fromkeys((*split.key, *dated)) if name not in names]
    needed = dict.fromkeys((*names, *kept, *quality.key))
    if absent := [name for name in needed if name not in frame.columns]:
        raise DataRefused(
            f"Expected the columns {', '.join(needed)}; {', '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} missing, got {', '.join(frame.columns)}.",
            remedy="Rename columns in the source, or add them in the project's prepare function.",
        )

    results = [_judge(column, frame[column.name]) for column in judged]
    fit = pl.repeat(True, frame.height, eager=True)
    for result in results:
        fit &= ~(result.missing | result.wrong)
    repeated = _repeated(frame, fit, quality)
    problems = [problem for result in results for problem in result.problems(frame)]
    if count := int(repeated.sum()):
        key = ", ".join(quality.key) or "all columns"
        problems.append(Problem(key, "duplicate", "each row once", count))
    refused = ~fit | repeated if quality.duplicates == "refuse" else ~fit
    bad = _with_reasons(frame, results, refused)
    fit &= ~repeated
    values = [*(result.value for result in results), *(frame[name] for name in kept)][::-1]
    # Each column goes as soon as its fit rows are taken, so that never two tables are there.
    results.clear()
    rows = pl.DataFrame([values.pop().filter(fit) for _ in range(len(values))])
    report = Report(
        rows=frame.height,
        kept=rows.height,
        refused=bad.height,
        dropped=frame.height - rows.height - bad.height,
        problems=tuple(problems),
    )
    return Checked(rows, bad, report)


@dataclass(frozen=True)
class _Result:
    """A column's values in their final type (null where they are not fit), and what is wrong."""

    column: Column
    value: "pl.Series"
    missing: "pl.Series"
    wrong: "pl.Series"

    def problems(self, frame: "pl.DataFrame") -> list[Problem]:
        import polars as pl

        name, expected = self.column.name, self.column.allows()
        problems = []
        if missing := int(self.missing.sum()):
            problems.append(Problem(name, "missing", expected, missing))
        if wrong := int(self.wrong.sum()):
            given = frame.select(name).filter(self.wrong).unique(maintain_order=True)
            shown = given.head(_EXAMPLES).select(_shown(name, given.schema[name]).cast(pl.String))
            problems.append(Problem(name, "not allowed", expected, wrong, tuple(shown.to_series())))
        return problems


def _target(project: Project, frame: "pl.DataFrame") -> Column:
    """The target as a column: its kind is that of the classes, or of the source's values."""
    labels = project.labels
    if labels is None:
        kind = frame.schema.get(project.target)
        whole = kind is not None and (kind.is_numeric() or kind.to_python() is bool)
        return Column(project.target, "integer" if whole else "category")
    whole = all(isinstance(label, int) for label in labels)
    categories = tuple(str(label) for label in labels)
    return Column(project.target, "integer" if whole else "category", categories=categories)


def _judge(column: Column, given: "pl.Series") -> _Result:
    import polars as pl

    if given.dtype == pl.Categorical:
        # Texts that repeat are judged once each, and stay so where they are texts in the end.
        texts = given.unique()
        judged = _judge(column, texts.cast(pl.String))
        value = judged.value.cast(given.dtype) if column.kind == "category" else judged.value
        found = (value, judged.missing, judged.wrong)
        return _Result(column, *(spread(given, texts, each) for each in found))
    if given.dtype.is_float():
        given = given.fill_nan(None)
    elif _is_text(given.dtype):
        given = given.cast(pl.String)
        if column.kind != "category":
            given = given.str.strip_chars()
        if "" not in (column.categories or ()) and (empty := given == "").any():
            given = given.set(empty, None)
    value = _cast(column, given)
    missing = given.is_null()
    wrong = ~(missing | _allowed(column, value))
    if column.nullable:
        missing = pl.repeat(False, len(given), eager=True)
    return _Result(column, value, missing, wrong)


def _is_text(kind: "pl.DataType") -> bool:
    import polars as pl

    return kind in (pl.String, pl.Categorical, pl.Enum)


def _cast(column: Column, given: "pl.Series") -> "pl.Series":
    """The values in their final type, null where something would be lost."""
    import polars as pl

    final: dict[str, type[pl.DataType]] = {
        "number": pl.Float64,
        "integer": pl.Int64,
        "boolean": pl.Boolean,
        "category": pl.String,
        "image": pl.Binary,
    }
    wanted, kind, is_text = final[column.kind], given.dtype, given.dtype == pl.String
    if column.kind == "image":
        castable = kind == pl.Binary
    elif column.kind == "category":
        castable = is_text or kind.is_integer()
    else:
        castable = is_text or kind.is_numeric() or kind == pl.Boolean
    if not castable:
        return pl.repeat(None, len(given), dtype=wanted, eager=True).alias(column.name)
    if column.kind in ("image", "category") or kind == pl.Boolean:
        return given.cast(wanted)
    if column.kind == "boolean" and is_text:
        texts = {"true": True, "false": False, "1": True, "0": False}
        return given.str.to_lowercase().replace_strict(texts, default=None, return_dtype=wanted)
    if column.kind == "integer" and kind.is_integer():
        return given.cast(wanted, strict=False)
    number = given.cast(pl.Float64, strict=False)
    number = number.set(~number.is_finite(), None)
    if column.kind == "integer":
        number = number.set((number != number.floor()) | (number.abs() >= _EXACT), None)
    if column.kind == "boolean":
        number = number.set((number != 0) & (number != 1), None)
    return number.cast(wanted)


def _allowed(column: Column, value: "pl.Series") -> "pl.Series":
    """Where there is a value and its column allows it."""
    import polars as pl

    allowed = value.is_not_null()
    compared = {"ge": value.__ge__, "gt": value.__gt__, "le": value.__le__, "lt": value.__lt__}
    for bound, compare in compared.items():
        if (limit := getattr(column, bound)) is not None:
            allowed &= compare(limit)
    if column.categories is not None:
        allowed &= value.cast(pl.String).is_in(column.categories)
    if column.min_length is not None:
        allowed &= value.str.len_chars() >= column.min_length
    if column.max_length is not None:
        allowed &= value.str.len_chars() <= column.max_length
    if column.image is not None:
        allowed &= value.bin.size() == column.image.size
    return allowed.fill_null(False)


def _repeated(frame: "pl.DataFrame", fit: "pl.Series", quality: Quality) -> "pl.Series":
    """The fit rows that repeat an earlier fit one."""
    import polars as pl

    if quality.duplicates == "keep":
        return pl.repeat(False, frame.height, eager=True)
    key = list(quality.key) or frame.columns
    index = frame.select(key).with_row_index("row number").filter(fit)
    first = index.unique(subset=key, keep="first", maintain_order=True)["row number"]
    numbers = pl.int_range(frame.height, eager=True, dtype=pl.UInt32)
    return fit & ~numbers.is_in(first.implode())


def _with_reasons(
    frame: "pl.DataFrame", results: Sequence[_Result], refused: "pl.Series"
) -> "pl.DataFrame":
    """The refused rows as they came, and why."""
    import polars as pl

    reasons = []
    for result in results:
        name = result.column.name
        expected = f"{name}: expected {result.column.allows()}, got "
        reasons.append(
            pl.when(result.wrong.filter(refused))
            .then(pl.concat_str(pl.lit(expected), _shown(name, frame.schema[name])))
            .when(result.missing.filter(refused))
            .then(pl.lit(expected + "nothing"))
        )
    text = pl.concat_str(reasons, separator="; ", ignore_nulls=True)
    text = pl.when(text == "").then(pl.lit("duplicate: expected each row once")).otherwise(text)
    reason = frame.filter(refused).select(text.alias("reason"))
    original = frame.filter(refused).rename({"reason": "reason in source"}, strict=False)
    return original.with_columns(reason)


def _shown(name: str, kind: "pl.DataType") -> "pl.Expr":
    """A column's values as texts short enough for a message."""
    import polars as pl

    value = pl.col(name)
    if kind == pl.Binary:
        return pl.format("{} bytes", value.bin.size())
    if _is_text(kind):
        return pl.format("'{}'", value.cast(pl.String).str.slice(0, _WIDTH))
    if kind.is_nested() or kind == pl.Object:
        return pl.lit(str(kind))
    return value.cast(pl.String)
