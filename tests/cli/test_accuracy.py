"""Live accuracy on the command line."""

from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.control.live import Live
from timonel.ids import Ids
from timonel.stores.labels import Label


@pytest.fixture
def live(home: Path) -> Live:
    """200 answers of the penguins' champion, all labelled; it is right nine times in ten."""
    made = Live(home.parent)
    made.traffic(200, labelled=1.0, right=(0.9, 0.9))
    return made


SINCE = ("--since", "2026-11-01")  # a day of that autumn is the traffic's


def test_a_version_is_shown_with_its_interval(timonel: Timonel, live: Live) -> None:
    ended = timonel("accuracy", "penguins", *SINCE, "--until", "2036-11-20")
    assert (ended.code, ended.err) == (0, "")
    heading, row = ended.out.splitlines()
    assert heading.split("\t")[:5] == ["version", "from (UTC)", "rows", "labelled", "accuracy"]
    version, _, rows, labelled, shown, expected, check = row.split("\t")
    assert (version, rows, labelled, expected, check) == ("penguins/rf@1", "200", "200", "–", "–")
    value, _, interval = shown.partition(" ")
    low, _, high = interval.strip("()").partition("–")
    assert 0.7 < float(low) < float(value) < float(high) < 0.97


def test_everything_is_told_as_json_by_window(timonel: Timonel, live: Live) -> None:
    name = str(Ids(clock_ns=lambda: int(live.clock.now * 1e9))())
    live.labels.put([Label("penguins", name, 0, "1", live.clock.now)])
    asked = ("accuracy", "penguins/rf", *SINCE, "--until", "2036-11-20", "--every", "day")
    (found,) = timonel(*asked, "--json").json()
    assert (found["model"], found["labels"], found["unknown"]) == ("rf", 201, 1)
    (window,) = found["windows"]
    assert window["since"].endswith("T00:00:00Z")
    assert window["accuracy"]["rows"] == window["rows"] == 200
    assert set(window["recalls"]) == {"0", "1", "2"}
    ended = timonel(*asked, "--classes")
    assert "version\tfrom (UTC)\tclass\tlabelled\trecall" in ended.out.splitlines()
    assert ended.err.startswith("1 labels name no prediction of the journal")


def test_a_model_that_is_not_there_is_told_with_those_that_are(
    timonel: Timonel, live: Live
) -> None:
    for name in ("penguins/cnn", "boats", "boats/rf"):
        ended = timonel("accuracy", name)
        assert ended.code == 2
        assert f"There is no version of {name}; there are: penguins/rf." in ended.err


def test_an_empty_home_has_no_accuracy(timonel: Timonel, home: Path) -> None:
    ended = timonel("accuracy", "penguins")
    assert (ended.code, "there are: no versions yet." in ended.err) == (2, True)
    assert not home.exists()
