"""A data set of an open-data portal that runs on Socrata, page by page through its API."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from timonel.data.files import Unfit, download
from timonel.data.portal import read_file
from timonel.errors import DataRefused, SourceError
from timonel.project import Read, Rows

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TOKEN", "Socrata"]

TOKEN = "SODA_APP_TOKEN"  # noqa: S105 (a variable's name)
"""The environment variable of an app token, which is optional; it raises the portal's limits."""

_ROUNDS = 3  # how often to begin again when the data set changed while it was read
_ATTEMPTS = 3  # how often to ask for a page that came incomplete
_COMPLETE = "complete"


@dataclass(frozen=True)
class Socrata:
    """The rows of data set `dataset` (such as `ijzp-q8t2`) at `domain`, as texts.

    `where` is a condition in SoQL. `order` names the column that sorts the pages: one that never
    changes and is never twice the same. `changed` names one that tells when a row was last
    written, so that changes are noticed that leave the number of rows as it is. `page` is rows a
    page.

    Pages are kept in the cache: a download that was killed goes on where it ended, and what has
    not changed since is not fetched again. Their number of rows is compared with the portal's own
    count before and after. An app token is read from SODA_APP_TOKEN and sent as a header.
    """

    domain: str
    dataset: str
    where: str | None = None
    order: str = ":id"
    changed: str | None = None
    page: int = 50_000

    def read(self, read: Read) -> Rows:
        """The rows, in `order`.

        Raises:
            SourceError: the portal cannot be reached or answers with something else.
        """
        import polars as pl

        fetch = _Fetch(self, read)
        notes: tuple[str, ...] = ()
        try:
            folder = fetch.all()
        except SourceError as error:
            kept = fetch.kept()
            if kept is None:
                raise
            folder = kept
            notes = (f"{error.message} These are the rows of the last complete download.",)
        frames = [fetch.rows(path) for path in sorted(folder.glob("*.csv"))]
        frame = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
        return Rows(frame, f"{self.domain}, data set {self.dataset}", notes)

    def __str__(self) -> str:
        return f"{self.domain}/{self.dataset}"


class _Fetch:
    """One reading of a data set."""

    def __init__(self, source: Socrata, read: Read) -> None:
        self._source = source
        self._read = read
        self._unreachable: set[str] = set()
        token = os.environ.get(TOKEN, "").strip()
        self._headers = {"X-App-Token": token} if token else {}
        query = (source.domain, source.dataset, source.where, source.order, source.page)
        self._folder = read.cache / "socrata" / _digest(query)

    def all(self) -> Path:
        """The folder that has all pages, of which those that are missing were fetched."""
        with self._writing():
            for _ in range(_ROUNDS):
                state = self._state()
                folder = self._folder / _digest(state)
                folder.mkdir(parents=True, exist_ok=True)
                for offset in range(0, state[0], self._source.page):
                    self._page(folder, offset, state[0])
                if self._state() == state:
                    (folder / _COMPLETE).touch()
                    for other in self._folder.iterdir():
                        if other != folder:
                            shutil.rmtree(other, ignore_errors=True)
                    return folder
        raise SourceError(
            f"{self._source}: it changed each of the {_ROUNDS} times that it was read.",
            remedy="Try again later; the pages that have not changed are kept.",
        )

    def kept(self) -> Path | None:
        """The folder of the last complete download."""
        marks = list(self._folder.glob(f"*/{_COMPLETE}"))
        return max(marks, key=lambda path: path.stat().st_mtime).parent if marks else None

    def rows(self, path: Path) -> "pl.DataFrame":
        """The rows of a page; raises DataRefused when it is none."""
        return read_file(path)[0]

    def _state(self) -> tuple[int, str]:
        """How many rows there are, and when the last was written."""
        select = "count(*) as rows"
        if self._source.changed:
            select += f",max({self._source.changed}) as changed"
        path = self._folder / "state.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            self._get(path, {"$select": select}, "counting rows", None)
            try:
                (found,) = self.rows(path).rows(named=True)
                return int(found["rows"]), found.get("changed") or ""
            except (DataRefused, KeyError, ValueError, TypeError) as error:
                reason = str(error)
            finally:
                path.unlink(missing_ok=True)
        raise SourceError(f"{self._source}: expected a count of rows, got: {reason}")

    def _page(self, folder: Path, offset: int, total: int) -> None:
        expected = min(self._source.page, total - offset)
        path = folder / f"{offset:010}.csv"
        parameters = {
            "$order": self._source.order,
            "$limit": str(self._source.page),
            "$offset": str(offset),
        }
        got = "nothing"
        for _ in range(_ATTEMPTS):
            if not path.exists():
                said = f"downloading rows {offset:,}–{offset + expected:,} of {total:,}"
                self._get(path, parameters, said, offset / total)
            try:
                rows = self.rows(path).height
            except DataRefused as error:
                got = error.message.removesuffix(".")
            else:
                if rows == expected:
                    return
                got = f"{rows:,}"
            path.unlink(missing_ok=True)
        raise SourceError(
            f"{self._source}: expected {expected:,} rows from row {offset:,} on, got {got}.",
            remedy="Try again later; the pages before are kept.",
        )

    def _get(self, path: Path, parameters: dict[str, str], said: str, share: float | None) -> None:
        """Write an answer to `path`, which appears whole or not at all."""
        source = self._source
        if source.where:
            parameters = {**parameters, "$where": source.where}
        base = source.domain if "://" in source.domain else f"https://{source.domain}"
        url = f"{base}/resource/{source.dataset}.csv?{urlencode(parameters)}"
        part = path.with_suffix(".part")
        read = replace(self._read, report=lambda phrase, done: self._read.report(said, share))
        try:
            download(
                url,
                part,
                read,
                name=source.dataset,
                headers=self._headers,
                unreachable=self._unreachable,
            )
        except Unfit as error:
            part.unlink(missing_ok=True)
            raise SourceError(
                f"{source}: expected rows, got: {error}.",
                remedy=f"Check the network and the data set's name; an app token in {TOKEN} "
                "raises the portal's limits.",
            ) from None
        part.replace(path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(
                f"Expected to write to the cache {self._read.cache}, got: {error}.",
                remedy="Make it writable or set TIMONEL_HOME to another folder.",
            ) from None


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:20]
