"""Quality: rows judged against the project's types; refused rows are kept with the reason."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

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
    category String, image Binary), the target, and the columns that the split needs.
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
        DataRefused: a column is missing from the frame, or one name is there for two purposes.
    """
    import polars as pl

    quality, split = project.quality, project.split
    judged = (*project.columns, _target(project, frame))
    if split.given and split.given not in {column.name for column in judged}:
        judged = (*judged, Column(split.given, "category", categories=SIDES))
    names = [column.name for column in judged]
    kept = [name for name in split.key if name not in names]
    needed = dict.fromkeys((*names, *kept, *quality.key))
    if absent := [name for name in needed if name not in frame.columns]:
        raise DataRefused(
            f"Expected the columns {', '.join(needed)}; {', '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} missing, got {', '.join(frame.columns)}.",
            remedy="Rename columns in the source, or add them in the project's prepare function.",
        )

    values, states = _judge(frame, judged)
    fit = pl.Series("fit", pl.select(pl.all_horizontal(s == _FIT for s in states)).to_series())
    repeated = _repeated(frame, fit, quality)
    good = fit & ~repeated
    refused = ~fit | repeated if quality.duplicates == "refuse" else ~fit
    problems = [p for c, s in zip(judged, states, strict=True) for p in _problems(c, s, frame)]
    if count := int(repeated.sum()):
        key = ", ".join(quality.key) or "all columns"
        problems.append(Problem(key, "duplicate", "each row once", count))
    table = pl.DataFrame(values).with_columns(frame[name] for name in kept)
    rows = table.filter(good)
    bad = _with_reasons(frame, judged, states, refused)
    report = Report(
        rows=frame.height,
        kept=rows.height,
        refused=bad.height,
        dropped=frame.height - rows.height - bad.height,
        problems=tuple(problems),
    )
    return Checked(rows, bad, report)


_FIT, _MISSING, _WRONG = 0, 1, 2


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


def _judge(
    frame: "pl.DataFrame", columns: Sequence[Column]
) -> tuple[list["pl.Series"], list["pl.Series"]]:
    """The columns in their final types, and for each row of each whether it is fit."""
    import polars as pl

    expressions = []
    for column in columns:
        value, present = _cast(column, frame.schema[column.name])
        allowed = _allowed(column, value).fill_null(False)
        state = (
            pl.when(~present)
            .then(pl.lit(_FIT if column.nullable else _MISSING))
            .when(allowed)
            .then(pl.lit(_FIT))
            .otherwise(pl.lit(_WRONG))
        )
        expressions += [value.alias(f"v {column.name}"), state.alias(f"s {column.name}")]
    judged = frame.select(expressions)
    return (
        [judged[f"v {column.name}"].alias(column.name) for column in columns],
        [judged[f"s {column.name}"] for column in columns],
    )


def _cast(column: Column, kind: "pl.DataType") -> tuple["pl.Expr", "pl.Expr"]:
    """A column's values in their final type, null where one cannot be; and where one was given."""
    import polars as pl

    raw = pl.col(column.name)
    is_text = kind in (pl.String, pl.Categorical, pl.Enum)
    if is_text:
        raw = raw.cast(pl.String)
        if column.kind != "category":
            raw = raw.str.strip_chars()
        if "" not in (column.categories or ()):
            raw = pl.when(raw != "").then(raw)
    elif kind.is_float():
        raw = raw.fill_nan(None)
    present = raw.is_not_null()
    is_scalar = is_text or kind.is_numeric() or kind == pl.Boolean
    value = pl.lit(None)
    if column.kind == "image":
        return (raw if kind == pl.Binary else pl.lit(None, pl.Binary)), present
    if column.kind == "category":
        exact = is_text or kind.is_integer()
        return (raw.cast(pl.String) if exact else pl.lit(None, pl.String)), present
    if column.kind == "number":
        return (_number(raw) if is_scalar else pl.lit(None, pl.Float64)), present
    if column.kind == "integer":
        value = raw.cast(pl.Int64, strict=False) if is_scalar else pl.lit(None, pl.Int64)
        if is_text or (is_scalar and not kind.is_integer() and kind != pl.Boolean):
            number = _number(raw)
            whole = (number == number.floor()) & (number.abs() <= _EXACT)
            rounded = pl.when(whole).then(number).cast(pl.Int64, strict=False)
            value = pl.coalesce(value, rounded) if is_text else rounded
        return value, present
    if kind == pl.Boolean:
        return raw, present
    if is_text:
        texts = {"true": True, "false": False, "1": True, "0": False}
        value = raw.str.to_lowercase().replace_strict(texts, default=None, return_dtype=pl.Boolean)
    else:
        value = pl.when(raw == 1).then(True).when(raw == 0).then(False) if is_scalar else value
    return value.cast(pl.Boolean), present


def _number(raw: "pl.Expr") -> "pl.Expr":
    import polars as pl

    number = raw.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _allowed(column: Column, value: "pl.Expr") -> "pl.Expr":
    """Where a value is what its column allows; null where there is none."""
    import polars as pl

    allowed = value.is_not_null()
    if column.ge is not None:
        allowed &= value >= column.ge
    if column.gt is not None:
        allowed &= value > column.gt
    if column.le is not None:
        allowed &= value <= column.le
    if column.lt is not None:
        allowed &= value < column.lt
    if column.categories is not None:
        allowed &= value.cast(pl.String).is_in(column.categories)
    if column.min_length is not None:
        allowed &= value.str.len_chars() >= column.min_length
    if column.max_length is not None:
        allowed &= value.str.len_chars() <= column.max_length
    if column.image is not None:
        allowed &= value.bin.size() == column.image.size
    return allowed


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


def _problems(column: Column, state: "pl.Series", frame: "pl.DataFrame") -> list[Problem]:
    import polars as pl

    problems = []
    if missing := int((state == _MISSING).sum()):
        problems.append(Problem(column.name, "missing", column.allows(), missing))
    if wrong := int((state == _WRONG).sum()):
        rows = frame.select(column.name).filter(state == _WRONG).unique(maintain_order=True)
        examples = rows.head(_EXAMPLES).select(_shown(column.name, frame.schema[column.name]))
        texts = tuple(examples.to_series().cast(pl.String).to_list())
        problems.append(Problem(column.name, "not allowed", column.allows(), wrong, texts))
    return problems


def _with_reasons(
    frame: "pl.DataFrame",
    columns: Sequence[Column],
    states: Sequence["pl.Series"],
    refused: "pl.Series",
) -> "pl.DataFrame":
    """The refused rows as they came, and why."""
    import polars as pl

    rows = frame.filter(refused)
    reasons = []
    for column, state in zip(columns, (s.filter(refused) for s in states), strict=True):
        expected = f"{column.name}: expected {replace(column, nullable=False).allows()}, got "
        shown = _shown(column.name, frame.schema[column.name])
        reasons.append(
            pl.when(state == _WRONG)
            .then(pl.concat_str(pl.lit(expected), shown))
            .when(state == _MISSING)
            .then(pl.lit(expected + "nothing"))
        )
    text = pl.concat_str(reasons, separator="; ", ignore_nulls=True)
    text = pl.when(text == "").then(pl.lit("duplicate: expected each row once")).otherwise(text)
    return rows.with_columns(text.alias("reason"))


def _shown(name: str, kind: "pl.DataType") -> "pl.Expr":
    """A column's values as texts short enough for a message."""
    import polars as pl

    value = pl.col(name)
    if kind == pl.Binary:
        return pl.format("{} bytes", value.bin.size())
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return pl.format("'{}'", value.cast(pl.String).str.slice(0, _WIDTH))
    if kind.is_nested() or kind == pl.Object:
        return pl.lit(str(kind))
    return value.cast(pl.String)
