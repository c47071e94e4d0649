"""`timonel drift` judges what is in the segments now, and says so in four ways."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.control.live import Live
from timonel.control.watch import Watch
from timonel.stores.decisions import Decisions


@pytest.fixture
def live(home: Path) -> Iterator[Live]:
    """A home with penguins/rf@1 as champion, and live rows."""
    live = Live(home.parent)
    live.traffic(1_200)
    yield live
    live.database.close()


def test_rows_like_those_of_training_are_no_drift(live: Live, timonel: Timonel) -> None:
    ended = timonel("drift", "penguins", "--exit-code")
    assert ended.code == 0
    assert ended.out.startswith("penguins/rf@1: No drift in 1,000 rows.")


def test_drift_names_the_column_by_how_much_and_since_when(live: Live, timonel: Timonel) -> None:
    live.clock.now += 600
    live.traffic(600, seconds=60.0, moved=1.3)
    ended = timonel("drift", "penguins/rf")
    assert ended.code == 0
    head, *rows = [line.split("\t") for line in ended.out.splitlines()[1:]]
    assert head[:5] == ["column", "statistic", "distance", "threshold", "verdict"]
    assert [row[0] for row in rows if row[4] == "drift"] == ["bill_length_mm"]
    assert rows[0][5].startswith("2026-11-18T")
    assert timonel("drift", "penguins", "--exit-code").code == 10


def test_a_period_takes_all_of_its_rows(live: Live, timonel: Timonel) -> None:
    (found,) = timonel("drift", "penguins", "--since", "2026-01-01", "--json").json()
    assert found["version"] == "penguins/rf@1"
    assert (found["state"], found["rows"]) == ("ok", 1_200)
    assert {"columns", "sentence", "severity", "false_alarms_a_week", "alarm"} <= set(found)
    (some,) = timonel("drift", "penguins", "--window", "300", "--json").json()
    assert some["rows"] == 300


def test_too_few_rows_are_not_enough_data(live: Live, timonel: Timonel) -> None:
    ended = timonel("drift", "penguins", "--window", "10", "--exit-code")
    assert ended.code == 11
    assert "Not enough data: in 10 rows a change smaller than" in ended.out
    none = timonel("drift", "penguins", "--until", "2026-01-01", "--exit-code")
    assert (none.code, none.out) == (11, "penguins/rf@1: Not enough data: 0 rows.\n")


def test_the_page_stands_alone_and_says_first_what_was_found(live: Live, timonel: Timonel) -> None:
    live.traffic(1_000, moved=1.3)
    assert "The page is page.html" in timonel("drift", "penguins", "--html", "page.html").out
    page = Path("page.html").read_text()
    for word in ("src=", "href=", "<link", "<script", "@import", "url(", "http"):
        assert word not in page, word
    assert "prefers-color-scheme: dark" in page
    assert page.index("Drift in 1,000 rows: bill_length_mm") < page.index("<svg")
    assert page.count("<svg") == 4


def test_the_past_shows_what_was_found_and_decided(live: Live, timonel: Timonel) -> None:
    live.clock.now += 10.0**9  # after the versions were made
    live.traffic(1_000)
    Watch([live.project], live.settings, live.database).tick()
    Decisions(live.database).add("penguins", "hold", "Nothing calls for it.", {}, who="controller")
    head, *rows = [
        line.split("\t") for line in timonel("drift", "penguins", "--past").out.splitlines()
    ]
    assert head == ["when (UTC)", "kind", "subject", "verdict", "reason"]
    assert sorted(row[1:4] for row in rows) == [
        ["drift", "penguins/rf", "ok"],
        ["retrain", "penguins", "hold"],
    ]
    found = timonel("drift", "penguins", "--past", "--json").json()
    assert found["checks"][0]["detail"]["version"] == "penguins/rf@1"
    assert found["decisions"][0]["sentence"] == "Nothing calls for it."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["penguins"], "Train one with: timonel run penguins"),
        (["penguins/trees"], "has no model 'trees'"),
        (["penguins", "--since", "soon"], "--since: expected an ISO time"),
        (["whales"], "There is no project 'whales'"),
    ],
)
def test_what_cannot_be_judged_is_told(timonel: Timonel, arguments: list[str], said: str) -> None:
    ended = timonel("drift", *arguments)
    assert ended.code > 0
    assert said in ended.err
