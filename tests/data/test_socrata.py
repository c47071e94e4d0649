"""A data set read page by page from a server that fails, stalls and cuts short."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from timonel.data import files
from timonel.data.socrata import TOKEN, Socrata
from timonel.errors import SourceError
from timonel.project import Read


class Portal(ThreadingHTTPServer):
    """Seven rows; `plan` has, for an offset (or "count"), what goes wrong with it in turn."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows = [f'"{n}","0{n}0","text, {n}"' for n in range(7)]
        self.changed = "2024-06-01T00:00:00.000"
        self.plan: dict[str, list[str | int]] = {}
        self.asked: list[dict[str, str]] = []
        self.tokens: set[str | None] = set()
        self.released = Event()

    @property
    def source(self) -> Socrata:
        address = f"http://127.0.0.1:{self.server_port}"
        return Socrata(address, "abcd-1234", order="id", changed="updated_on", page=3)

    def offsets(self) -> list[str]:
        """Of the pages that were asked for."""
        return [query["$offset"] for query in self.asked if "$offset" in query]

    def body(self, query: dict[str, str]) -> str:
        if "$select" in query:
            return f'"rows","changed"\n"{len(self.rows)}","{self.changed}"\n'
        start = int(query["$offset"])
        rows = self.rows[start : start + int(query["$limit"])]
        return "\n".join(['"id","iucr","note"', *rows]) + "\n"


class Handler(BaseHTTPRequestHandler):
    server: Portal

    def do_GET(self) -> None:
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        portal = self.server
        portal.asked.append(query)
        portal.tokens.add(self.headers.get("X-App-Token"))
        plan = portal.plan.get(query.get("$offset", "count"), [])
        wrong = plan.pop(0) if plan else None
        body = portal.body(query).encode()
        if wrong == "stall":
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:5])
            self.wfile.flush()
            self.close_connection = False
            portal.released.wait(5)
            return
        if wrong == "change":
            portal.changed += "0"
        if wrong == "html":
            body = b"<html>down for maintenance</html>"
        if wrong == "fewer":
            body = b"\n".join(body.split(b"\n")[:-2]) + b"\n"
        self.send_response(wrong if isinstance(wrong, int) else 200)
        if wrong == 302:
            self.send_header("Location", f"http://localhost:{portal.server_port}/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if wrong == "torn" else body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    monkeypatch.setattr(files, "_PAUSE", 0.001)
    monkeypatch.setattr(files, "_READ_SECONDS", 0.3)
    monkeypatch.delenv(TOKEN, raising=False)
    server = Portal()
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return Read(None, tmp_path / "cache", "sqlite://")


IDS = [str(n) for n in range(7)]


def test_all_pages_are_read_in_a_stable_order_as_texts(portal: Portal, read: Read) -> None:
    told: list[str] = []
    rows = portal.source.read(replace(read, report=lambda phrase, share: told.append(phrase)))
    assert rows.frame["id"].to_list() == IDS
    assert rows.frame.row(0) == ("0", "000", "text, 0")
    assert rows.origin.endswith("data set abcd-1234")
    assert rows.notes == ()
    assert portal.offsets() == ["0", "3", "6"]
    assert {query["$order"] for query in portal.asked if "$offset" in query} == {"id"}
    assert "downloading rows 6–7 of 7" in told


def test_a_condition_goes_with_every_request(portal: Portal, read: Read) -> None:
    replace(portal.source, where="year = 2024", changed=None).read(read)
    assert {query["$where"] for query in portal.asked} == {"year = 2024"}
    assert portal.asked[0]["$select"] == "count(*) as rows"


@pytest.mark.parametrize("wrong", [503, 429, "torn", "stall", "fewer", "html"])
@pytest.mark.parametrize("where", ["3", "count"])
def test_what_goes_wrong_once_is_tried_again(
    portal: Portal, read: Read, wrong: str | int, where: str
) -> None:
    portal.plan[where] = [wrong]
    assert portal.source.read(read).frame["id"].to_list() == IDS


def test_what_has_not_changed_is_not_fetched_again(portal: Portal, read: Read) -> None:
    portal.source.read(read)
    portal.source.read(read)
    assert portal.offsets() == ["0", "3", "6"]


def test_a_download_that_ended_early_goes_on_where_it_ended(portal: Portal, read: Read) -> None:
    portal.plan["3"] = [404]
    with pytest.raises(SourceError, match="HTTP status 404"):
        portal.source.read(read)
    assert portal.source.read(read).frame["id"].to_list() == IDS
    assert portal.offsets() == ["0", "3", "3", "6"]


def test_a_page_that_was_spoiled_in_the_cache_is_fetched_again(portal: Portal, read: Read) -> None:
    portal.source.read(read)
    (page,) = read.cache.rglob("0000000003.csv")
    page.write_text('"id","iucr","note"\n')
    assert portal.source.read(read).frame["id"].to_list() == IDS


def test_a_data_set_that_changed_meanwhile_is_read_again(portal: Portal, read: Read) -> None:
    portal.plan["6"] = ["change"]
    assert portal.source.read(read).frame["id"].to_list() == IDS
    assert portal.offsets() == ["0", "3", "6"] * 2


def test_old_pages_do_not_pile_up(portal: Portal, read: Read) -> None:
    portal.source.read(read)
    portal.rows.append('"7","070","new"')
    assert portal.source.read(read).frame["id"].to_list() == [*IDS, "7"]
    assert len(list(read.cache.rglob("*.csv"))) == 3


def test_a_data_set_that_never_stands_still_is_refused(portal: Portal, read: Read) -> None:
    portal.plan["6"] = ["change"] * 3
    with pytest.raises(SourceError, match="changed each of the 3 times"):
        portal.source.read(read)


def test_a_page_that_always_lacks_rows_is_refused(portal: Portal, read: Read) -> None:
    portal.plan["3"] = ["fewer"] * 3
    with pytest.raises(SourceError, match="expected 3 rows from row 3 on, got 2"):
        portal.source.read(read)
    portal.plan["6"] = ["html"] * 3
    with pytest.raises(SourceError, match=r"expected 1 rows from row 6 on, got .*web page"):
        portal.source.read(read)


def test_an_answer_that_is_no_count_is_refused(portal: Portal, read: Read) -> None:
    portal.plan["count"] = ["html"] * 3
    with pytest.raises(SourceError, match="expected a count of rows"):
        portal.source.read(read)


def test_without_the_portal_the_last_complete_download_is_used_and_told(
    portal: Portal, read: Read
) -> None:
    portal.source.read(read)
    portal.plan["count"] = [404]
    rows = portal.source.read(read)
    assert rows.frame["id"].to_list() == IDS
    assert "last complete download" in rows.notes[0]


def test_an_empty_data_set_has_no_rows(portal: Portal, read: Read) -> None:
    portal.rows = []
    assert portal.source.read(read).frame.height == 0


def test_a_token_goes_to_the_portal_and_nowhere_else(
    portal: Portal, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal.source.read(read)
    assert portal.tokens == {None}
    monkeypatch.setenv(TOKEN, "secret-token")
    portal.tokens.clear()
    told: list[str] = []
    other = replace(portal.source, where="ward = 7")
    rows = other.read(replace(read, report=lambda phrase, share: told.append(phrase)))
    assert portal.tokens == {"secret-token"}
    portal.plan["count"] = [302]
    third = replace(portal.source, where="ward = 8")
    with pytest.raises(SourceError, match="302") as refused:
        third.read(read)
    kept = [path.name + path.read_text() for path in read.cache.rglob("*") if path.is_file()]
    everything = json.dumps([*told, *kept, str(refused.value), str(rows.notes), repr(other)])
    assert "secret-token" not in everything


def test_a_portal_that_cannot_be_reached_is_a_sentence(read: Read) -> None:
    source = Socrata("http://127.0.0.1:1", "abcd-1234")
    with pytest.raises(SourceError, match="could not be reached") as refused:
        source.read(read)
    assert TOKEN in str(refused.value)


def test_a_cache_that_cannot_be_written_is_a_sentence(portal: Portal, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(SourceError, match="Expected to write to the cache"):
        portal.source.read(Read(None, tmp_path / "cache", "sqlite://"))
