"""Feedback is read whole or not at all, and whatever comes, the answer is a sentence."""

import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timonel.errors import BadRequest, BodyTooLarge
from timonel.ids import Ids
from timonel.journal.feedback import FeedbackReader, RefusedFeedback

READER = FeedbackReader("boat", max_rows=100, max_table_rows=100)
CLASSES = ("a", "b, c", 'd "e"')
ID = str(Ids()())

said = st.tuples(st.sampled_from([str(Ids()()) for _ in range(5)]), st.integers(0, 9))
texts = st.text(max_size=20) | st.sampled_from([ID, "a", f"{ID}.1", "7"])
things = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "label", "row"]), inner),
    max_leaves=10,
)


@given(st.dictionaries(said, st.sampled_from(CLASSES), max_size=20))
def test_json_and_tables_say_the_same(labels: dict[tuple[str, int], str]) -> None:
    rows = [{"id": f"{name}.{row}", "label": label} for (name, row), label in labels.items()]
    quoted = ['"' + label.replace('"', '""') + '"' for label in labels.values()]
    lines = (f"{name},{text},{row}" for ((name, row), text) in zip(labels, quoted, strict=True))
    table = "\n".join(["id,label,row", *lines])
    found, count = READER.json(json.dumps(rows).encode(), CLASSES, 5)
    assert (found, count) == READER.csv(table.encode(), CLASSES, 5)
    kept = {(str(uuid.UUID(bytes=one.id)), one.row): one.label for one in found}
    assert (kept, count) == (labels, len(labels))
    assert {(one.project, one.time_ns) for one in found} <= {("boat", 5)}


@settings(max_examples=300)
@given(st.binary(max_size=200) | texts.map(str.encode) | things.map(json.dumps).map(str.encode))
def test_whatever_comes_is_read_or_refused_with_a_sentence(body: bytes) -> None:
    for read, start in ((READER.json, b""), (READER.csv, b""), (READER.csv, b"id,label,row\n")):
        refused = ""
        try:
            found, rows = read(start + body, CLASSES, 1)
        except BadRequest as error:
            refused = str(error)
        assert "xpected" in refused or (not refused and len(found) <= rows)


@pytest.mark.parametrize(
    "body", [b'"\xff"', b'{"id": "\\ud800", "label": "a"}', b'{"id": 1e999, "label": -0}', b"[]]"]
)
def test_odd_texts_and_numbers_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="xpected"):
        READER.json(body, CLASSES, 1)


def test_the_first_twenty_complaints_are_told_with_their_rows() -> None:
    body = json.dumps([{"id": ID, "label": "a"}] + [{"id": "x", "label": "a"}] * 50).encode()
    with pytest.raises(RefusedFeedback, match="row 1, id: Expected a prediction id") as refused:
        READER.json(body, CLASSES, 1)
    assert [one["loc"] for one in refused.value.detail] == [["body", n, "id"] for n in range(1, 21)]


def test_many_classes_are_told_in_part() -> None:
    body = json.dumps({"id": ID, "label": "x" * 1_000}).encode()
    with pytest.raises(RefusedFeedback) as refused:
        READER.json(body, range(1_000), 1)
    assert "58, 59, …, got 'xxx" in str(refused.value)
    assert len(str(refused.value)) < 500


def test_rows_are_counted_before_they_are_read() -> None:
    with pytest.raises(BodyTooLarge, match="at most 100 rows in a request, got 102"):
        READER.csv(b"id,label\n" + b"x\n" * 102, CLASSES, 1)
    with pytest.raises(BodyTooLarge, match="got 101"):
        READER.json(json.dumps([0] * 101).encode(), CLASSES, 1)
    assert READER.csv(b"id,label\n" + b"\n" * 50, CLASSES, 1) == ([], 0)


def test_an_old_mac_line_end_is_counted_too() -> None:
    with pytest.raises(BodyTooLarge, match="got 102"):
        READER.csv(b"id,label\r" + b"x,a\r" * 102, CLASSES, 1)
