"""Labels: the latest said counts, in whatever order and however often they come."""

from itertools import permutations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timonel.stores.database import Database
from timonel.stores.labels import Label, Labels


def label(prediction: str, text: str, at: float = 1.0, row: int = 0) -> Label:
    return Label("boat", prediction, row, text, at)


def test_labels_are_found_by_the_range_of_their_ids(database: Database) -> None:
    labels = Labels(database)
    assert labels.put([label("b", "x"), label("a", "y"), label("b", "z", row=1)]) == 3
    assert [(one.prediction, one.row, one.label) for one in labels.between("boat", "a", "b")] == [
        ("a", 0, "y"),
        ("b", 0, "x"),
        ("b", 1, "z"),
    ]
    assert labels.between("boat", "c", "d") == []
    counts = [labels.count_between("boat", *ids) for ids in (("a", "b"), ("a", "a"), ("c", "d"))]
    assert counts == [3, 1, 0]
    assert labels.between("digits", "a", "b") == []


def test_the_same_label_again_changes_nothing(database: Database) -> None:
    labels = Labels(database)
    assert labels.put([label("a", "x", 1.0)]) == 1
    assert labels.put([label("a", "x", 5.0), label("a", "x", 6.0)]) == 0
    assert labels.between("boat", "a", "a") == [label("a", "x", 6.0)]
    assert labels.put([label("a", "y", 7.0)]) == 1
    assert labels.put([label("a", "x", 2.0)]) == 0
    assert labels.between("boat", "a", "a") == [label("a", "y", 7.0)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=4), st.integers(1, 4))
def test_any_order_and_grouping_ends_in_the_latest(
    database: Database, said: list[str], size: int
) -> None:
    labels = Labels(database)
    given_labels = [label("a", text, float(at)) for at, text in enumerate(said)]
    for order in list(permutations(given_labels))[:6]:
        for start in range(0, len(order), size):
            labels.put(order[start : start + size])
        assert labels.between("boat", "a", "a")[0].label == said[-1]
        labels.forget("boat", ["a"])


def test_many_at_once_are_kept(database: Database) -> None:
    labels = Labels(database)
    assert labels.put(label(f"{n:05}", "x", float(n)) for n in range(1_700)) == 1_700
    assert labels.count("boat") == 1_700
    assert labels.count("boat", since=1_600.0) == 100
    assert labels.latest("boat") == 1_699.0
    assert labels.latest("digits") == 0.0


def test_labels_are_forgotten_by_id_and_by_age(database: Database) -> None:
    labels = Labels(database)
    labels.put(label(f"{n:05}", "x") for n in range(1_000))
    assert labels.forget("boat", [f"{n:05}" for n in range(600)] + ["none"]) == 600
    assert labels.forget_before("boat", "00900") == 300
    assert labels.count("boat") == 100
