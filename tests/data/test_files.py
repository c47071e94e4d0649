"""Where a file is looked for, and how it is downloaded."""

import gzip
import hashlib
import socket
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest

from timonel.data import files
from timonel.data.files import locate
from timonel.errors import MissingExtra, SourceError
from timonel.project import File, Read

CONTENT = b"a,b\n1,2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Server(ThreadingHTTPServer):
    """Answers from `plan`: for each path the statuses (or a torn answer) in turn."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: dict[str, list[int | str]] = {}
        self.asked: list[str] = []
        self.content = CONTENT
        self.moved = "/moved.csv"

    def url(self, path: str = "/train.csv") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        plan = self.server.plan.get(self.path, [])
        answer = plan.pop(0) if plan else 200
        if answer == "hang up":
            return
        self.send_response(answer if isinstance(answer, int) else 200)
        if answer == 302:
            self.send_header("Location", self.server.moved)
        if answer != "no length":
            length = len(self.server.content) if answer in (200, "torn") else 0
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if answer == "torn":
            self.wfile.write(self.server.content[:-1])
        elif answer in (200, "no length"):
            self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(files, "_PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "data").mkdir()
    return Read(tmp_path / "data", tmp_path / "cache", "sqlite://")


def test_the_data_folder_is_asked_before_any_address(read: Read, server: Server) -> None:
    assert read.folder
    path = read.folder / "train.csv"
    path.write_bytes(CONTENT)
    assert locate(File("train.csv", (server.url(),), SHA256), read) == path
    assert server.asked == []


def test_a_path_that_exists_is_taken_as_it_is(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.csv"
    path.write_bytes(CONTENT)
    assert locate(File(str(path)), read) == path
    assert locate(File("mine.csv", (path.as_uri(),), SHA256), read) == path


def test_a_download_is_kept_and_not_fetched_again(read: Read, server: Server) -> None:
    file = File("sub/train.csv", (server.url(),), SHA256)
    path = locate(file, read)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(read.cache)
    assert locate(file, read) == path
    assert server.asked == ["/train.csv"]
    assert [p.name for p in path.parent.iterdir()] == ["train.csv"]


def test_two_files_of_one_name_and_no_checksum_do_not_meet_in_the_cache(
    read: Read, server: Server
) -> None:
    first = locate(File("train.csv", (server.url("/one"),)), read)
    server.content = b"other"
    second = locate(File("train.csv", (server.url("/two"),)), read)
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, b"other")


def test_a_cached_copy_that_rotted_is_fetched_again(read: Read, server: Server) -> None:
    file = File("train.csv", (server.url(),), SHA256)
    locate(file, read).write_bytes(b"rotten")
    assert locate(file, read).read_bytes() == CONTENT


def test_progress_is_told_as_a_share(tmp_path: Path, server: Server) -> None:
    server.content = bytes(3 * 2**18)
    told: list[tuple[str, float | None]] = []
    read = Read(None, tmp_path, "sqlite://", lambda phrase, share: told.append((phrase, share)))
    locate(File("train.csv", (server.url(),)), read)
    assert told[0] == ("downloading train.csv", None)
    shares = [share for _, share in told[1:] if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) >= 3


def test_an_answer_without_a_length_is_taken_and_its_share_not_known(
    tmp_path: Path, server: Server
) -> None:
    server.plan["/train.csv"] = ["no length"]
    told: list[float | None] = []
    read = Read(None, tmp_path, "sqlite://", lambda _, share: told.append(share))
    assert locate(File("train.csv", (server.url(),), SHA256), read).read_bytes() == CONTENT
    assert set(told) == {None}


def test_redirects_are_followed(read: Read, server: Server) -> None:
    server.plan["/train.csv"] = [302]
    assert locate(File("train.csv", (server.url(),), SHA256), read).read_bytes() == CONTENT
    assert server.asked == ["/train.csv", "/moved.csv"]


def test_a_redirect_to_something_else_than_http_is_not_followed(read: Read, server: Server) -> None:
    server.plan["/train.csv"] = [302]
    server.moved = "ftp://127.0.0.1/train.csv"
    with pytest.raises(SourceError, match="InvalidSchema"):
        locate(File("train.csv", (server.url(),), SHA256), read)


def test_a_server_whose_certificate_nobody_signed_is_not_believed(
    read: Read, server: Server
) -> None:
    with pytest.raises(SourceError, match="certificate or encryption refused"):
        locate(File("train.csv", (server.url().replace("http:", "https:"),), SHA256), read)


@pytest.mark.parametrize("failure", [503, 429, "torn", "hang up"])
def test_a_passing_failure_is_tried_again(read: Read, server: Server, failure: int | str) -> None:
    server.plan["/train.csv"] = [failure, failure]
    assert locate(File("train.csv", (server.url(),), SHA256), read).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_lasting_failure_is_not_tried_again_and_the_next_address_is(
    read: Read, server: Server
) -> None:
    server.plan["/gone"] = [404]
    server.plan["/broken"] = [500, 500, 500]
    file = File("train.csv", (server.url("/gone"), server.url("/broken"), server.url()), SHA256)
    assert locate(file, read).read_bytes() == CONTENT
    assert server.asked == ["/gone", "/broken", "/broken", "/broken", "/train.csv"]


def test_a_server_that_falls_silent_is_given_up(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PAUSE", 0.0)
    monkeypatch.setattr(files, "_READ_SECONDS", 0.05)
    hang = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{hang.getsockname()[1]}/train.csv"
    with hang, pytest.raises(SourceError, match=r"no answer for 0\.05 s"):
        locate(File("train.csv", (url,)), read)


def test_every_place_that_was_tried_is_named(read: Read, server: Server, tmp_path: Path) -> None:
    server.plan["/train.csv"] = [404]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    urls = (
        server.url(),
        f"http://127.0.0.1:{port}/one.csv",
        f"http://127.0.0.1:{port}/two.csv",
        "ftp://example.org/train.csv",
        "file:///nowhere/train.csv",
        (tmp_path / "wrong.csv").as_uri(),
    )
    (tmp_path / "wrong.csv").write_bytes(b"other")
    with pytest.raises(SourceError) as caught:
        locate(File("train.csv", urls, SHA256), read)
    message = str(caught.value)
    assert f"{read.folder}/train.csv (no such file)" in message
    assert f"{Path('train.csv').absolute()} (no such file)" in message
    assert f"{urls[0]} (HTTP status 404)" in message
    assert f"{urls[1]} (the host could not be reached)" in message
    assert f"{urls[2]} (the host could not be reached)" in message
    assert f"{urls[3]} (expected an address that starts with https://" in message
    assert f"{urls[4]} (no such file)" in message
    assert f"{urls[5]} (expected sha256 {SHA256}, got " in message
    assert "TIMONEL_DATA" in message


def test_a_name_that_is_looked_up_for_ever_is_given_up(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        hang.accept()

    monkeypatch.setattr(files, "_CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with (
        socket.create_server(("127.0.0.1", 0)) as hang,
        pytest.raises(SourceError, match="the host could not be reached"),
    ):
        locate(File("train.csv", ("https://rows.example/train.csv",)), read)


@pytest.mark.parametrize("place", ["data folder", "answer"])
def test_a_wrong_checksum_is_refused_wherever_the_file_came_from(
    read: Read, server: Server, place: str
) -> None:
    assert read.folder
    if place == "answer":
        server.content = b"other"
    else:
        (read.folder / "train.csv").write_bytes(b"other")
    got = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(SourceError, match=rf"expected sha256 {SHA256}, got {got}"):
        locate(File("train.csv", (server.url(),), SHA256), read)
    assert not list(read.cache.glob("*/*"))


def test_a_cache_that_cannot_be_written_is_named(read: Read, server: Server) -> None:
    read.cache.write_text("a file where the folder should be")
    with pytest.raises(SourceError, match="Expected to write to the cache"):
        locate(File("train.csv", (server.url(),)), read)


def test_a_download_larger_than_the_disk_is_not_begun(
    read: Read, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(9, 6, 3))
    with pytest.raises(SourceError, match="8 bytes, and only 3 are free"):
        locate(File("train.csv", (server.url(),)), read)


def test_without_requests_the_extra_to_install_is_named(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(MissingExtra, match=r"pip install 'timonel\[train\]'"):
        locate(File("train.csv", ("https://rows.example/train.csv",)), read)


def test_a_gzipped_file_is_kept_as_it_is(read: Read, server: Server) -> None:
    server.content = gzip.compress(CONTENT)
    path = locate(File("train.csv.gz", (server.url(),)), read)
    assert gzip.decompress(path.read_bytes()) == CONTENT
