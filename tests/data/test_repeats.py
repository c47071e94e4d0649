"""What is worked out once for each text of a column."""

import polars as pl
import pytest

from timonel.data.repeats import spread


@pytest.mark.parametrize(
    "texts", [["b", "a", None, "b", ""], ["a"], [None, None], []], ids=["mixed", "one", "none", "0"]
)
def test_every_row_gets_what_was_found_for_its_text(texts: list[str | None]) -> None:
    pl.Series(["taken", "before"], dtype=pl.Categorical)
    given = pl.Series("a", texts, pl.Categorical)
    each = given.unique()
    found = each.cast(pl.String).fill_null("nothing") + "!"
    expected = [f"{'nothing' if text is None else text}!" for text in texts]
    assert spread(given, each, found).to_list() == expected
