"""Live accuracy: labels find their predictions, late ones too, and until then it is estimated."""

import json
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.homes import deploy, home_at
from tests.monitoring.answered import START, Home
from timonel.journal.records import SHADOW, Feedback, Record
from timonel.journal.segments import export
from timonel.monitoring.live import Calibrations, Live, Window, calibrations, live
from timonel.project import load_project
from timonel.stores.artifacts import fetch_version, save_version
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.versions import Versions
from timonel.training.calibration import Calibration

FOREVER = START + 1e6
CALIBRATION = Calibration((0.5, 1.0), (0.5, 1.0), 1_000_000)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def shown(
    home: Home,
    since: float = START,
    until: float = FOREVER,
    every: float | None = None,
    calibration: Calibrations = lambda version: None,
) -> Live:
    return live(
        home.segments, home.labels, home.objects, "boat", "m",
        since=since, until=until, every=every, calibration=calibration,
    )  # fmt: skip


def only(found: Live) -> Window:
    (window,) = found.windows
    return window


def test_without_answers_there_is_nothing_to_say(home: Home) -> None:
    assert shown(home) == Live(windows=(), labels=0, unknown=0)


def test_labels_give_each_version_its_accuracy_and_recalls(home: Home) -> None:
    many = home.answer("a", "b", "b", "a")
    one, unsaid = home.answer("a", version="boat/m@2"), home.answer("b", version="boat/m@2")
    truth = [home.said(many, label, row) for row, label in enumerate("abaa")]
    home.export(many, one, unsaid, *truth, home.said(one, "a"))
    first, second = shown(home).windows
    assert (first.version, first.rows, first.labelled) == ("boat/m@1", 4, 4)
    assert first.accuracy is not None
    assert (first.accuracy.value, first.accuracy.rows) == (0.75, 4)
    assert 0 < first.accuracy.low < 0.75 < first.accuracy.high < 1
    recalls = {label: (one.value, one.rows) for label, one in first.recalls.items()}
    assert recalls == {"a": (2 / 3, 3), "b": (1.0, 1)}
    assert (second.version, second.rows, second.labelled) == ("boat/m@2", 2, 1)
    assert (first.estimate, first.check) == (None, None)


def test_what_callers_were_not_given_is_not_counted(home: Home) -> None:
    seen = home.answer("a")
    mirrored = home.answer("b", version="boat/m@2", identifier=seen.id, via=SHADOW)
    failed = home.answer(version="boat/m@2", error="It broke.")
    other = home.answer("a", version="boat/other@1")
    home.export(seen, mirrored, failed, other, *(home.said(one, "a") for one in (seen, other)))
    found = shown(home)
    assert (only(found).version, only(found).rows, only(found).labelled) == ("boat/m@1", 1, 1)
    assert (found.labels, found.unknown) == (2, 0)


def test_ids_that_nothing_is_known_of_are_counted_until_they_are(home: Home) -> None:
    known, late = home.answer("a"), home.answer("b")
    home.export(
        known,
        home.said(known, "a"),
        home.said(known, "a", row=3),
        home.said(home.unknown(), "a"),
        home.said(late, "b"),
    )
    found = shown(home)
    assert (found.labels, found.unknown, only(found).labelled) == (4, 3, 1)
    # The worker that answered it exports later.
    home.export(late)
    found = shown(home)
    assert (found.labels, found.unknown, only(found).labelled) == (4, 2, 2)


def test_a_label_counts_where_its_prediction_was_made_however_late(home: Home) -> None:
    early = home.answer("a")
    home.export(early)
    home.clock.now += 86_400 * 30
    later = home.answer("a")
    home.export(later, home.said(early, "b"), home.said(later, "a"))
    first, second = shown(home, until=FOREVER * 2, every=86_400).windows
    assert [window.accuracy and window.accuracy.value for window in (first, second)] == [0.0, 1.0]
    assert (first.since, first.until % 86_400) == (START, 0)
    assert (second.since % 86_400, second.until - second.since) == (0, 86_400)
    assert first.until <= second.since
    assert only(shown(home, until=START + 3_600)).accuracy == first.accuracy
    assert shown(home, since=first.until).windows == shown(home, since=second.since).windows
    assert shown(home, until=START).windows == ()


def test_until_labels_come_it_is_estimated_and_then_the_estimate_is_checked(home: Home) -> None:
    rng = np.random.default_rng(0)
    answers = [home.answer("a", sure=sure) for sure in rng.uniform(0.5, 1.0, 400)]
    sure = [np.frombuffer(one.answers[0].probabilities, "<f4")[0] for one in answers]
    home.export(*answers)
    window = only(shown(home, calibration=lambda version: CALIBRATION))
    assert window.estimate is not None
    assert (window.accuracy, window.check, window.estimate.is_estimate) == (None, None, True)
    assert window.estimate.value == pytest.approx(np.mean(sure), abs=1e-6)

    def truth(rows: slice, shares: list[float]) -> list[Feedback]:
        drawn = rng.random(len(answers))
        pairs = list(zip(answers, drawn, shares, strict=True))[rows]
        return [home.said(one, "a" if luck < share else "b") for one, luck, share in pairs]

    home.export(*truth(slice(0, 300), [float(one) for one in sure]))
    window = only(shown(home, calibration=lambda version: CALIBRATION))
    assert window.accuracy is not None
    assert window.check is not None
    assert (window.rows, window.labelled, window.check.truth) == (400, 300, window.accuracy)
    assert window.check.held
    # What it means has changed: the confidence did not notice, the labels do.
    home.export(*truth(slice(0, 300), [0.3] * 400))
    changed = only(shown(home, calibration=lambda version: CALIBRATION))
    assert changed.check is not None
    assert not changed.check.held
    assert changed.estimate == window.estimate


def test_a_versions_calibration_is_in_its_files(tmp_path: Path) -> None:
    given = home_at(tmp_path)
    version = deploy(load_project("penguins"), given)
    objects = ObjectStore.open(given.objects_url)
    versions = Versions(Database.open(given.database_url))
    of = calibrations(versions, objects, given.serving_folder)
    assert of(version.label) is None
    folder = tmp_path / "made"
    shutil.copytree(fetch_version(version.digest, objects, given.serving_folder), folder)
    metrics = {"calibration": CALIBRATION.to_dict()}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    versions.add("penguins", "rf", 2, digest=save_version(folder, objects), who="t", reason="t")
    assert of("penguins/rf@2") == CALIBRATION
    assert of("penguins/rf@9") is None


Item = Record | Feedback


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_order_repetition_and_grouping_do_not_matter(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        answers = [home.answer(*"ab"), home.answer("b"), home.answer("a", version="boat/m@2")]
        said: list[Item] = [
            home.said(answers[0], "a"),
            home.said(answers[0], "b", row=1),
            home.said(answers[1], "a"),
            home.said(answers[1], "b"),  # corrected
            home.said(answers[2], "b"),
            home.said(home.unknown(), "a"),
        ]
        repeated = data.draw(st.lists(st.sampled_from(said), max_size=4))
        items = data.draw(st.permutations([*answers, *said, *repeated]))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=3)))
        edges = [0, *cuts, len(items)]
        for start, end in pairwise(edges):
            path = home.write(*items[start:end])
            copy = path.read_bytes()
            for _ in range(data.draw(st.integers(1, 2))):
                path.write_bytes(copy)  # killed before the file was deleted
                export(path, home.objects, home.segments, home.database)
        found = shown(home)
        assert (found.labels, found.unknown) == (5, 1)
        rights = {
            w.version: (w.rows, w.labelled, w.accuracy and w.accuracy.value) for w in found.windows
        }
        assert rights == {"boat/m@1": (3, 3, 1.0), "boat/m@2": (1, 1, 0.0)}
        home.database.close()
