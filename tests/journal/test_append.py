import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.journal.samples import DIGITS, PENGUINS, START, digit, penguin
from timonel.errors import JournalFull
from timonel.journal import append
from timonel.journal.append import Journal
from timonel.journal.files import locked, take
from timonel.journal.records import Meta, Record, encode, read
from timonel.journal.segments import adopt

MakeJournal = Callable[..., Journal]


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def journal_in(tmp_path: Path) -> MakeJournal:
    def make(**options: Any) -> Journal:
        given = {"worker": "0", "boot": "boot", "meta": [PENGUINS, DIGITS], "reserve": 65_536}
        return Journal(tmp_path, **{**given, **options})

    return make


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each write to a file at a position, as they are made."""
    sizes: list[int] = []
    real = os.pwrite

    def counted(fd: int, data: bytes, offset: int) -> int:
        sizes.append(len(data))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    return sizes


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)


def _records(folder: Path) -> list[Record]:
    return [record for path in sorted(folder.iterdir()) for record in read(path)]


def test_a_record_is_in_the_file_when_its_answer_may_leave(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journal = journal_in()
        for n in range(1, 4):
            record = penguin()
            await journal.append(encode(record))
            assert _records(tmp_path)[-1] == record
            assert journal.written == n
        journal.close()

    _run(work())


def test_all_records_of_a_turn_of_the_loop_go_in_one_write(
    tmp_path: Path, journal_in: MakeJournal, writes: list[int]
) -> None:
    records = [penguin() for _ in range(50)]

    async def work() -> None:
        journal = journal_in()
        await journal.append(encode(digit()))
        before = len(writes)

        async def answer(record: Record) -> None:
            await journal.append(encode(record))

        await asyncio.gather(*map(answer, records))
        assert len(writes) == before + 1
        await asyncio.gather(*map(answer, records))
        assert len(writes) == before + 2
        journal.close()

    _run(work())
    assert _records(tmp_path)[1:] == records * 2


def test_nothing_is_written_before_there_is_something_to_keep(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    journal = journal_in()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_writes_what_waits_and_gives_back_reserved_space(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journal = journal_in()
        first = journal.append(encode(penguin()))
        assert not first.done()
        journal.close()
        await first

    _run(work())
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".closed"
    assert path.name.startswith("boot-0-")
    assert path.stat().st_size < 1_000
    assert len(list(read(path))) == 1


def test_one_who_hangs_up_takes_nobody_elses_answer_away(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journal = journal_in()

        async def answer() -> None:
            await journal.append(encode(penguin()))

        gone, stays = asyncio.create_task(answer()), asyncio.create_task(answer())
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        assert gone.cancelled()
        journal.close()

    _run(work())
    assert len(_records(tmp_path)) == 2


def test_a_file_that_is_large_enough_is_closed_and_another_begun(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journal = journal_in(rotate_bytes=5_000)
        for _ in range(20):
            await journal.append(encode(digit()))
        journal.close()
        assert journal.written == 20

    _run(work())
    assert len(_records(tmp_path)) == 20
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 2
    for path in paths:
        assert path.stat().st_size < 5_000 + 1_000
        reading = read(path)
        assert list(reading)
        assert reading.metas == {PENGUINS.key: PENGUINS, DIGITS.key: DIGITS}


def test_a_file_that_is_old_enough_is_closed_while_nothing_happens(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journal = journal_in(rotate_seconds=0.01)
        await journal.append(encode(penguin()))
        await asyncio.to_thread(_until, lambda: any(tmp_path.glob("*.closed")))
        await journal.append(encode(penguin()))
        journal.close()

    _run(work())
    assert len(list(tmp_path.glob("*.closed"))) == 2
    assert len(_records(tmp_path)) == 2


def test_file_names_never_come_back_though_the_clock_stands_still(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        for _ in range(2):
            journal = journal_in(rotate_bytes=1, clock=lambda: START)
            for _ in range(3):
                await journal.append(encode(penguin()))

    _run(work())
    assert len(list(tmp_path.iterdir())) == 6


def test_a_version_announced_while_running_is_explained_in_the_file(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    newer = Meta("penguins", PENGUINS.columns, "rf", "penguins/rf@2", ("Adelie", "Gentoo"))

    async def work() -> None:
        journal = journal_in(meta=[PENGUINS])
        await journal.append(encode(penguin()))
        journal.announce(newer)
        await journal.append(encode(penguin()))
        journal.close()

    _run(work())
    (path,) = tmp_path.iterdir()
    reading = read(path)
    known = [set(reading.metas) for _ in reading]
    assert known == [{PENGUINS.key}, {PENGUINS.key, newer.key}]


def test_other_columns_begin_another_file(tmp_path: Path, journal_in: MakeJournal) -> None:
    other = Meta("penguins", (("sex", "category"),), "rf", "penguins/rf@2", ("Adelie", "Gentoo"))

    async def work() -> None:
        journal = journal_in()
        waiting = journal.append(encode(penguin()))
        journal.announce(other)
        await journal.append(encode(penguin()))
        await waiting
        journal.close()

    _run(work())
    first, second = (read(path) for path in sorted(tmp_path.iterdir()))
    assert (len(list(first)), len(list(second))) == (1, 1)
    assert first.metas == {PENGUINS.key: PENGUINS, DIGITS.key: DIGITS}
    assert second.metas == {other.key: other, DIGITS.key: DIGITS}


def test_the_writers_lock_keeps_its_file_from_being_adopted(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journal = journal_in()
        await journal.append(encode(penguin()))
        assert adopt(tmp_path) == []
        journal.close()
        assert len(adopt(tmp_path)) == 1

    _run(work())


def test_a_file_adopted_before_its_writer_locked_it_is_left_for_another(
    tmp_path: Path, journal_in: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def slow(fd: int, path: Path) -> bool:
        if not seen:
            seen.append(path)
            with locked(path) as mine:
                assert mine
                assert not take(fd, path)
            adopt(tmp_path)
        return take(fd, path)

    monkeypatch.setattr(append, "take", slow)

    async def work() -> None:
        journal = journal_in()
        await journal.append(encode(penguin()))
        journal.close()

    _run(work())
    assert len(list(tmp_path.iterdir())) == 2
    assert len(_records(tmp_path)) == 1


class _Disk:
    """A disk that takes `room` more bytes, then says that it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self._write = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, fd: int, data: bytes, offset: int) -> int:
        if self.room is not None:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = data[: self.room]
            self.room -= len(data)
        return self._write(fd, data, offset)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> _Disk:
    return _Disk(monkeypatch)


@pytest.mark.parametrize("room", [0, 1, 700, 2_000])
def test_a_full_disk_refuses_the_whole_group_and_leaves_nothing_of_it(
    tmp_path: Path, journal_in: MakeJournal, disk: _Disk, room: int
) -> None:
    kept = [penguin(), penguin()]

    async def work() -> None:
        journal = journal_in()
        await journal.append(encode(kept[0]))
        disk.room = room
        group = [journal.append(encode(digit())) for _ in range(3)]
        refused = await asyncio.gather(*group, return_exceptions=True)
        assert all(isinstance(answer, JournalFull) for answer in refused)
        assert "No space left on device" in str(refused[0])
        assert "TIMONEL_JOURNAL_FULL=answer" in str(refused[0])
        disk.room = None
        await journal.append(encode(kept[1]))
        assert (journal.written, journal.refused, journal.lost) == (2, 3, 0)
        journal.close()

    _run(work())
    (path,) = tmp_path.iterdir()
    reading = read(path)
    assert list(reading) == kept
    assert reading.note is None


def test_the_policy_answer_goes_on_and_counts_what_was_lost(
    tmp_path: Path, journal_in: MakeJournal, disk: _Disk
) -> None:
    async def work() -> None:
        journal = journal_in(policy="answer")
        await journal.append(encode(penguin()))
        disk.room = 100
        await asyncio.gather(*(journal.append(encode(digit())) for _ in range(3)))
        assert (journal.written, journal.refused, journal.lost) == (1, 0, 3)
        journal.close()

    _run(work())
    assert len(_records(tmp_path)) == 1


def test_a_file_that_cannot_be_begun_is_refused_and_tried_again(
    tmp_path: Path, journal_in: MakeJournal, disk: _Disk
) -> None:
    async def work() -> None:
        journal = journal_in(fsync=True)
        disk.room = 5
        with pytest.raises(JournalFull):
            await journal.append(encode(penguin()))
        disk.room = None
        await journal.append(encode(penguin()))
        journal.close()

    _run(work())
    assert len(_records(tmp_path)) == 1


def test_a_file_that_cannot_be_cut_back_is_abandoned_to_the_adopter(
    tmp_path: Path, journal_in: MakeJournal, disk: _Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def work() -> None:
        journal = journal_in()
        await journal.append(encode(penguin()))
        with monkeypatch.context() as broken:
            broken.setattr(os, "ftruncate", fails)
            disk.room = 50
            with pytest.raises(JournalFull):
                await journal.append(encode(digit()))
        disk.room = None
        await journal.append(encode(penguin()))
        journal.close()

    _run(work())
    assert len(adopt(tmp_path)) == 2
    assert [record.project for record in _records(tmp_path)] == ["penguins", "penguins"]


def test_a_folder_that_cannot_be_made_is_a_full_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def work() -> None:
        journal = Journal(tmp_path / "file" / "journal", worker="0", boot="b")
        with pytest.raises(JournalFull, match="cannot be written"):
            await journal.append(encode(penguin()))

    _run(work())


def test_a_real_limit_on_the_files_size_cuts_a_group_and_it_is_cut_back(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journal = journal_in(reserve=0)
        await journal.append(encode(penguin()))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            with pytest.raises(JournalFull):
                await journal.append(encode(digit(b"\x07" * 2_000_000)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await journal.append(encode(penguin()))
        journal.close()

    _run(work())
    assert [record.project for record in _records(tmp_path)] == ["penguins", "penguins"]


class _Reserve:
    """Stands in for posix_fallocate: grants what fits into `room`, or raises `error`."""

    def __init__(self, room: int, error: int = errno.ENOSPC) -> None:
        self.room = room
        self.error = error
        self.asked = 0

    def __call__(self, _fd: int, offset: int, size: int) -> None:
        self.asked += 1
        if offset + size > self.room:
            raise OSError(self.error, os.strerror(self.error))


def test_a_disk_becoming_full_shows_before_a_record_is_at_stake(
    journal_in: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Reserve(room=70_000)
    monkeypatch.setattr(append, "_reserve", disk)

    async def work() -> None:
        journal = journal_in()
        states = []
        for _ in range(90):
            try:
                await journal.append(encode(digit()))
            except JournalFull:
                break
            states.append(journal.short)
        assert states[:20] == [False] * 20
        assert states[-20:] == [True] * 20
        assert 60 < len(states) < 90
        disk.room = 1_000_000
        await journal.append(encode(digit()))
        assert not journal.short
        journal.close()

    _run(work())


def test_a_filesystem_that_cannot_reserve_is_written_all_the_same(
    tmp_path: Path, journal_in: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Reserve(room=0, error=errno.EOPNOTSUPP)
    monkeypatch.setattr(append, "_reserve", disk)

    async def work() -> None:
        journal = journal_in()
        await journal.append(encode(penguin()))
        await journal.append(encode(penguin()))
        assert disk.asked == 1
        assert not journal.short
        journal.close()

    _run(work())
    assert len(_records(tmp_path)) == 2


def test_every_group_waits_for_the_disk_when_asked_to(
    journal_in: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(append, "_sync", synced.append)

    async def work() -> None:
        journal = journal_in(fsync=True)
        await journal.append(encode(penguin()))
        before = len(synced)
        await asyncio.gather(*(journal.append(encode(penguin())) for _ in range(9)))
        assert len(synced) == before + 1
        journal.close()

    _run(work())


def test_who_asks_to_be_called_is_told_when_the_group_is_written_and_why_it_is_not(
    tmp_path: Path, journal_in: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        journal, told = journal_in(), list[BaseException | None]()
        journal.append_then(encode(penguin()), told.append)
        waiting = journal.append(encode(penguin()))
        assert told == []
        await waiting
        assert told == [None]
        assert journal.written == 2

        def full(_payloads: list[bytes]) -> None:
            raise OSError(errno.ENOSPC, "no space")

        for broken in (full, _no_memory):
            with monkeypatch.context() as patch:
                patch.setattr(journal, "_write", broken)
                journal.append_then(encode(penguin()), told.append)
                with suppress(MemoryError):
                    journal.flush()
        assert isinstance(told[1], JournalFull)
        assert isinstance(told[2], asyncio.CancelledError)
        journal.close()

    _run(work())
    assert len(_records(tmp_path)) == 2


def test_nobody_waits_for_ever_when_writing_fails_for_another_reason(
    journal_in: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        journal = journal_in()
        waiting = journal.append(encode(penguin()))
        with monkeypatch.context() as broken:
            broken.setattr(journal, "_write", _no_memory)
            with pytest.raises(MemoryError):
                journal.flush()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        journal.close()

    _run(work())


def _no_memory(_payloads: list[bytes]) -> None:
    raise MemoryError


_CHILD = """
import asyncio, os, sys, uuid
from pathlib import Path
from tests.journal.samples import DIGITS, PENGUINS, digit, penguin
from timonel.journal.append import Journal
from timonel.journal.records import Record, encode
import msgspec

async def main():
    loop = asyncio.get_running_loop()
    journal = Journal(Path(sys.argv[1]), worker=sys.argv[2], boot="boot", meta=[PENGUINS, DIGITS],
                      rotate_seconds=60, rotate_bytes=int(sys.argv[3]))
    end = loop.time() + 20
    async def client(make):
        while loop.time() < end:
            record = msgspec.structs.replace(make(), id=uuid.uuid4().bytes)
            await journal.append(encode(record))
            os.write(1, record.id.hex().encode() + b"\\n")
    await asyncio.gather(*(client(digit if n % 2 else penguin) for n in range(16)))

asyncio.run(main())
"""


def _start(folder: Path, worker: str, rotate_bytes: int = 200_000) -> "subprocess.Popen[bytes]":
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder), worker, str(rotate_bytes)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.parametrize("attempt", range(5))
def test_a_killed_writer_loses_no_record_that_was_acknowledged(
    tmp_path: Path, attempt: int
) -> None:
    with _start(tmp_path, str(attempt)) as child:
        assert child.stdout is not None
        output = b"".join(child.stdout.readline() for _ in range(500 + 300 * attempt))
        child.send_signal(signal.SIGKILL)
        output += child.stdout.read()
    acknowledged = {line.decode() for line in output.split(b"\n") if len(line) == 32}
    assert len(acknowledged) >= 500
    paths = adopt(tmp_path)
    assert len(paths) == len(list(tmp_path.iterdir())) > 1
    kept = [record.id.hex() for path in paths for record in read(path)]
    assert len(kept) == len(set(kept))
    assert acknowledged <= set(kept)


def test_a_file_is_read_while_another_process_writes_it(tmp_path: Path) -> None:
    with _start(tmp_path, "0", rotate_bytes=2**30) as child:
        assert child.stdout is not None
        try:
            acknowledged = set()
            for _ in range(20):
                acknowledged |= {UUID(child.stdout.readline().decode().strip()) for _ in range(40)}
                time.sleep(0.001)
                assert acknowledged <= {UUID(bytes=record.id) for record in _records(tmp_path)}
        finally:
            child.kill()
            child.stdout.read()


def test_two_workers_of_one_boot_keep_to_their_own_files(
    tmp_path: Path, journal_in: MakeJournal
) -> None:
    async def work() -> None:
        journals = [journal_in(worker="0"), journal_in(worker="1")]
        for _ in range(3):
            await asyncio.gather(*(each.append(encode(penguin())) for each in journals))
        assert adopt(tmp_path) == []
        journals[0].close()
        assert [path.name.split("-")[1] for path in adopt(tmp_path)] == ["0"]
        journals[1].close()

    _run(work())
    assert [len(list(read(path))) for path in adopt(tmp_path)] == [3, 3]
