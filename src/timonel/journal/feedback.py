"""Feedback as it is sent: prediction ids with true labels, checked before any of it is kept."""

import csv
import io
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from timonel.errors import BadRequest, BodyTooLarge
from timonel.journal.records import Feedback
from timonel.signature import Label

__all__ = ["FeedbackReader", "RefusedFeedback"]

_ID = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})(?:\.([0-9]{1,9}))?",
    re.IGNORECASE,
)
_MOST_ROW = 999_999_999
_MOST_COMPLAINTS = 20
_MOST_SHOWN = 60  # characters of a value, and classes, that a complaint shows
_FIELDS = ("id", "label", "row")


class RefusedFeedback(BadRequest):
    """Feedback of which none was kept; `detail` has a place and a sentence for each complaint."""

    status = 422

    def __init__(self, detail: Sequence[Mapping[str, Any]]) -> None:
        shown = [f"{_place(one['loc'])}{one['msg']}" for one in detail]
        super().__init__(" ".join(shown))
        self.detail = list(detail)


class FeedbackReader:
    """Reads the feedback of one project; `max_rows` is the most in JSON, `max_table_rows` in CSV.

    All of a body is taken, or none. A row that says the same twice is given once.
    """

    def __init__(self, project: str, *, max_rows: int, max_table_rows: int) -> None:
        self._project = project
        self._max_rows = max_rows
        self._max_table_rows = max_table_rows

    def json(
        self, body: bytes, classes: Sequence[Label], time_ns: int
    ) -> tuple[list[Feedback], int]:
        """What a JSON body says, at `time_ns`, and how many rows it had.

        It is `{"id": …, "label": …}`, with `"row": n` where the id has none, or a list of these.

        Raises:
            BadRequest: the body is no JSON.
            BodyTooLarge: it has too many rows.
            RefusedFeedback: a row does not fit, or the label is none of `classes`.
        """
        try:
            given = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"Expected feedback as JSON, got: {error}.") from None
        rows, single = (given, False) if isinstance(given, list) else ([given], True)
        self._check_rows(len(rows), self._max_rows)
        return self._read(rows, classes, time_ns, single=single), len(rows)

    def csv(
        self, body: bytes, classes: Sequence[Label], time_ns: int
    ) -> tuple[list[Feedback], int]:
        """What a CSV body in UTF-8 says, at `time_ns`, and how many rows it had.

        Its columns `id` and `label`, and `row` if there is one, are read; others are ignored.

        Raises:
            BadRequest: the body is no CSV with these columns.
            BodyTooLarge: it has too many rows.
            RefusedFeedback: a row does not fit, or the label is none of `classes`.
        """
        # Counted before they are read: a line takes far more memory as a row.
        self._check_rows(body.count(b"\n") - 1, self._max_table_rows)
        try:
            rows = list(_rows_of(body.decode("utf-8-sig")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadRequest(f"Expected feedback as CSV in UTF-8, got: {error}.") from None
        self._check_rows(len(rows), self._max_table_rows)
        return self._read(rows, classes, time_ns, single=False), len(rows)

    def _check_rows(self, rows: int, most: int) -> None:
        if rows > most:
            raise BodyTooLarge(
                f"Expected feedback on at most {most:,} rows in a request, got {rows:,}.",
                remedy="Send it in several requests; what is sent twice counts once.",
            )

    def _read(
        self, rows: Iterable[Any], classes: Sequence[Label], time_ns: int, *, single: bool
    ) -> list[Feedback]:
        names = {str(label): str(label) for label in classes}
        # A table that lost its whole numbers on the way says 7.0.
        names |= {f"{label}.0": str(label) for label in classes if isinstance(label, int)}
        expected = f"one of {_listed(classes)}"
        kept: dict[tuple[bytes, int], Feedback] = {}
        complaints: list[dict[str, Any]] = []
        for n, row in enumerate(rows):
            said = _said(row, names, expected)
            if not isinstance(said, _Complaint):
                key, label = (said.id, said.row), said.label
                if key not in kept or kept[key].label == label:
                    kept[key] = Feedback(said.id, said.row, self._project, label, time_ns)
                    continue
                said = _Complaint("label", f"expected one label, got {kept[key].label!r} before")
            where = [] if single else [n]
            field = [said.field] if said.field else []
            complaints.append(
                {"type": "value_error", "loc": ["body", *where, *field], "msg": said.sentence}
            )
            if len(complaints) == _MOST_COMPLAINTS:
                break
        if complaints:
            raise RefusedFeedback(complaints)
        return list(kept.values())


class _Said(msgspec.Struct, frozen=True):
    id: bytes
    row: int
    label: str


class _Complaint:
    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        self.sentence = f"{sentence[:1].upper()}{sentence[1:]}."


def _said(given: Any, names: Mapping[str, str], expected: str) -> _Said | _Complaint:
    """One row of feedback, or what is wrong with it; `names` has the class of each text."""
    if not isinstance(given, dict):
        return _Complaint("", f"expected an id and a label, got {_shown(given)}")
    for field in given:
        if field not in _FIELDS:
            return _Complaint("", f"expected {', '.join(_FIELDS)}, got {_shown(field)}")
    identifier = given.get("id")
    found = _ID.fullmatch(identifier.strip()) if isinstance(identifier, str) else None
    if found is None:
        told = "nothing" if identifier is None else _shown(identifier)
        return _Complaint("id", f"expected a prediction id, or ID.n for its row n, got {told}")
    row = _row(given.get("row"))
    if row is None:
        return _Complaint("row", f"expected a number from 0, got {_shown(given['row'])}")
    if found[2] is not None:
        if row not in (-1, int(found[2])):
            return _Complaint("row", f"expected {int(found[2])} as in the id, got {row}")
        row = int(found[2])
    label = given.get("label")
    text = str(label).strip() if isinstance(label, str | int | float) else ""
    name = None if isinstance(label, bool) else names.get(text)
    if name is None:
        told = "nothing" if label is None or label == "" else _shown(label)
        return _Complaint("label", f"expected {expected}, got {told}")
    return _Said(uuid.UUID(found[1]).bytes, max(row, 0), name)


def _row(given: Any) -> int | None:
    """The row that was named, -1 where none was; None where it is no such number."""
    if given is None or given == "":
        return -1
    if isinstance(given, str) and re.fullmatch(r"[0-9]{1,9}", given.strip()):
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST_ROW:
        return None
    return given


def _rows_of(text: str) -> Iterator[dict[str, str]]:
    lines = csv.reader(io.StringIO(text, newline=""))
    names = [name.strip() for name in next(lines, [])]
    if missing := [name for name in _FIELDS[:2] if name not in names]:
        raise BadRequest(
            f"Expected CSV with the columns id and label, got {_listed(names) or 'no heading'}: "
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing."
        )
    places = [(name, names.index(name)) for name in _FIELDS if name in names]
    for line in lines:
        if line:
            yield {name: line[place] for name, place in places if place < len(line)}


def _listed(values: Sequence[object]) -> str:
    text = ", ".join(map(str, values[:_MOST_SHOWN]))
    return f"{text}, …" if len(values) > _MOST_SHOWN else text


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _place(where: Sequence[Any]) -> str:
    parts = [f"row {part}" if isinstance(part, int) else str(part) for part in where[1:]]
    return f"{', '.join(parts)}: " if parts else ""
