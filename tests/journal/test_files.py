import os
from pathlib import Path

from timonel.journal.files import locked, take


def test_a_lock_is_had_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.closed"
    path.write_bytes(b"")
    with locked(path) as first, locked(path) as second:
        assert (first, second) == (True, False)
    with locked(path) as again:
        assert again


def test_a_file_that_is_gone_has_no_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "a.closed") as mine:
        assert not mine


def test_a_file_that_was_replaced_under_its_name_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.open"
    path.write_bytes(b"")
    fd = os.open(path, os.O_RDONLY)
    try:
        path.rename(tmp_path / "a.closed")
        assert not take(fd, path)
        path.write_bytes(b"another")
        assert not take(fd, path)
        assert take(fd, tmp_path / "a.closed")
    finally:
        os.close(fd)
