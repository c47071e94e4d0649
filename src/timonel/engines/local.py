"""Runs the methods of one object in processes of this machine, or here when one is enough."""

import mmap
import os
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Future
from importlib.machinery import PathFinder
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from timonel.errors import RunFailed

__all__ = ["Local", "cores"]

# A process that is one of many gets one thread in every numerical library.
_ONE_THREAD = dict.fromkeys(
    (
        "LOKY_MAX_CPU_COUNT",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
_ALIGN = 64


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Local:
    """Calls methods of `work` in `jobs` processes that each get it once.

    Arrays of `work` are mapped from one file that all processes share, so they are read-only and
    take memory once. `code` are functions (or objects) whose modules the processes may not be able
    to import by name, such as those of a project's file. Use it as a context manager.
    """

    def __init__(self, work: object, *, jobs: int = 1, code: Sequence[object] = ()) -> None:
        self._work = work
        self._executor: Any = None
        self._waiting: deque[tuple[Future[Any], str, tuple[object, ...]]] = deque()
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if jobs > 1:
            from joblib.externals.loky import ProcessPoolExecutor

            self._folder = tempfile.TemporaryDirectory(prefix="timonel-work-")
            _write(work, Path(self._folder.name), code)
            self._executor = ProcessPoolExecutor(
                max_workers=jobs,
                initializer=_load,
                initargs=(self._folder.name,),
                env=_ONE_THREAD,
            )

    def submit(self, method: str, *arguments: object) -> "Future[Any]":
        """A call of `work.method(*arguments)`, to be had from `next_done`."""
        if self._executor is None:
            future: Future[Any] = Future()
            self._waiting.append((future, method, arguments))
            return future
        future = self._executor.submit(_call, method, arguments)
        future.add_done_callback(self._done.put)
        return future

    def next_done(self) -> "Future[Any]":
        """Waits for one of the calls submitted to end.

        Raises:
            RunFailed: a process ended before it answered.
        """
        if self._executor is None:
            future, method, arguments = self._waiting.popleft()
            try:
                future.set_result(getattr(self._work, method)(*arguments))
            except Exception as error:  # noqa: BLE001 - the caller asks the future
                future.set_exception(error)
            return future
        future = self._done.get()
        if isinstance(future.exception(), BrokenExecutor):
            raise RunFailed(
                "A process that was training ended without an answer; the system may have been "
                "short of memory.",
                remedy="Run again with fewer processes: TIMONEL_JOBS=1.",
            ) from future.exception()
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
        if self._folder is not None:
            self._folder.cleanup()


def _write(work: object, folder: Path, code: Sequence[object]) -> None:
    import cloudpickle

    for name in {_module_of(item) for item in code if item is not None}:
        # A module that was loaded from a path is known to this process only.
        if name in sys.modules and not _importable(name):
            cloudpickle.register_pickle_by_value(sys.modules[name])
    buffers: list[memoryview] = []
    pickled = cloudpickle.dumps(
        work, protocol=5, buffer_callback=lambda buffer: buffers.append(buffer.raw())
    )
    spans: list[tuple[int, int]] = []
    with (folder / "arrays").open("wb") as file:
        for buffer in buffers:
            file.write(b"\0" * (-file.tell() % _ALIGN))
            spans.append((file.tell(), buffer.nbytes))
            file.write(buffer)
    (folder / "work").write_bytes(cloudpickle.dumps((pickled, spans)))


def _module_of(item: object) -> str:
    return getattr(item, "__module__", None) or type(item).__module__


def _importable(name: str) -> bool:
    """Whether a new process finds this very module by its name."""
    if name in sys.builtin_module_names:
        return True
    path: Sequence[str] | None = None
    spec = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return spec is not None and spec.origin == getattr(sys.modules[name], "__file__", None)


_loaded: list[Any] = []  # the work, in each process


def _load(folder: str) -> None:
    """Runs once in each process."""
    import pickle

    # These bytes were written by the parent of this process, in a folder only it can write to.
    pickled, spans = pickle.loads(Path(folder, "work").read_bytes())  # noqa: S301
    views: list[memoryview] = []
    if any(size for _, size in spans):
        with Path(folder, "arrays").open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        views = [view[start : start + size] for start, size in spans]
    else:
        views = [memoryview(b"") for _ in spans]
    _loaded[:] = [pickle.loads(pickled, buffers=views)]  # noqa: S301


def _call(method: str, arguments: tuple[object, ...]) -> Any:
    return getattr(_loaded[0], method)(*arguments)
