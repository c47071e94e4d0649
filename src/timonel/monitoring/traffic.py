"""What two versions answered, from the journal's segments: traffic, times, failures, agreement."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from timonel.stores.labels import Label

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Answers", "Score", "Times", "answers_of", "labelled", "times_of", "with_rows"]

Score = Callable[[str, "pl.DataFrame"], Sequence[str | None]]
"""Gives the label of a version, by its name, for each of a segment's rows; None where it fails."""


@dataclass(frozen=True)
class Times:
    """One version's requests: how many, how many failed, and the seconds of the others."""

    requests: int
    failed: int
    seconds: Sequence[float]


@dataclass(frozen=True)
class Answers:
    """Rows that a champion and a challenger both answered.

    A frame with `prediction` (the UUID as text), `row`, `champion` and `challenger` (labels).
    """

    frame: "pl.DataFrame"

    @property
    def disagreed(self) -> int:
        """Rows to which the two said different things."""
        return int((self.frame["champion"] != self.frame["challenger"]).sum())

    @property
    def agreed(self) -> int:
        """Rows to which they said the same."""
        return len(self.frame) - self.disagreed


def with_rows(segment: "pl.DataFrame") -> "pl.DataFrame":
    """The segment with `request`, the prediction's UUID as text, and `row`, from 0 in each."""
    import polars as pl

    return segment.with_columns(
        request=pl.col("id").str.slice(0, 36),
        row=pl.col("id").str.slice(37).cast(pl.Int64, strict=False).fill_null(0),
    )


def times_of(segment: "pl.DataFrame", version: str) -> Times:
    """A version's requests in a segment, those that only mirrored others included.

    A request of several rows counts once, and fails as one.
    """
    import polars as pl

    requests = (
        with_rows(segment.filter(pl.col("version") == version))
        .group_by("request", "via")
        .agg(pl.col("seconds").first(), failed=pl.col("error").is_not_null().any())
    )
    failed = int(requests["failed"].sum())
    seconds = requests.filter(~pl.col("failed"))["seconds"].drop_nulls().to_list()
    return Times(len(requests), failed, seconds)


def answers_of(
    segment: "pl.DataFrame",
    champion: str,
    challenger: str,
    score: Score | None = None,
) -> Answers:
    """The rows of a segment that both versions answered.

    `score` is given the version that was not asked, and the rows; without it only those that both
    were asked are compared. Rows that it fails on are not: nobody knows what it would have said.
    """
    import polars as pl

    # A version is given the rows as they stand: a feature may be called what a column here is.
    kept = segment.filter(pl.col("prediction").is_not_null())
    own = ["id", "version", "prediction"]
    rows = with_rows(kept.select(own)).with_row_index("place")
    names = ("prediction", "row", "champion", "challenger")

    def of(version: str, name: str) -> pl.DataFrame:
        mine = rows.filter(pl.col("version") == version).unique(
            ["request", "row"], keep="first", maintain_order=True
        )
        return mine.with_columns(pl.col("prediction").alias(name))

    first, second = of(champion, "champion"), of(challenger, "challenger")
    both = first.join(second.select("request", "row", "challenger"), ["request", "row"])
    parts = [both.select("request", "row", "champion", "challenger")]
    for mine, other, version, name in (
        (first, second, challenger, "challenger"),
        (second, first, champion, "champion"),
    ):
        alone = mine.join(other.select("request", "row"), ["request", "row"], how="anti")
        if score is not None and len(alone):
            said = pl.Series(name, list(score(version, kept[alone["place"]])), dtype=pl.String)
            answered = alone.with_columns(said).filter(pl.col(name).is_not_null())
            parts.append(answered.select("request", "row", "champion", "challenger"))
    return Answers(pl.concat(parts).rename({"request": "prediction"}).select(names))


def labelled(answers: Answers, labels: Sequence[Label]) -> tuple[int, int, int]:
    """Of the rows with a label: where only the champion was right, both or none, only the other."""
    import polars as pl

    if not labels:
        return 0, 0, 0
    truth = pl.DataFrame(
        {
            "prediction": [label.prediction for label in labels],
            "row": [label.row for label in labels],
            "label": [label.label for label in labels],
        },
        schema={"prediction": pl.String, "row": pl.Int64, "label": pl.String},
    )
    known = answers.frame.join(truth, ["prediction", "row"])
    champion = known["champion"] == known["label"]
    challenger = known["challenger"] == known["label"]
    worse, better = int((champion & ~challenger).sum()), int((challenger & ~champion).sum())
    return worse, len(known) - worse - better, better
