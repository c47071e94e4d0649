"""One run of a project's pipeline: its life, its steps' cache, and what is told of it.

A step's output is kept under a key: the hash of its code, its parameters and its inputs' hashes. A
step whose key was finished before, in whichever run, is not done again; so a run that failed or
was killed goes on where it ended.
"""

import hashlib
import inspect
import json
import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from timonel.errors import RunFailed, TimonelError
from timonel.stores.objects import ObjectStore
from timonel.stores.runs import Run, Runs, RunStatus

__all__ = ["Event", "Runner", "Stopped", "code_of"]

_BEAT_SECONDS = 10.0

Report = Callable[[str, float | None], None]


class Stopped(TimonelError):
    """The run was stopped by a person or a signal."""

    exit_code = 130


@dataclass(frozen=True)
class Event:
    """What a run tells while it goes on; `share` is how much of the step is done, 0..1."""

    run: str
    project: str
    kind: Literal["run", "step", "note"]
    name: str
    status: str
    note: str = ""
    share: float | None = None

    def to_json(self) -> str:
        """One line for a script."""
        return json.dumps(asdict(self), ensure_ascii=False)


def code_of(thing: object) -> str:
    """What identifies a function's code: its text, and that of the file around it."""
    from timonel import __version__

    try:
        file = inspect.getsourcefile(inspect.unwrap(thing))  # type: ignore[arg-type]
        source = Path(file).read_bytes() if file else repr(thing).encode()
    except (TypeError, OSError):
        source = repr(thing).encode()
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    return f"{name} {hashlib.sha256(source).hexdigest()[:16]} {__version__}"


class Runner:
    """Carries one run: `with Runner(…) as runner: runner.step(…)`.

    Leaving the block ends the run: succeeded, or `refused` when `refuse` was called, or failed
    with the sentence of the error that left it.
    """

    def __init__(
        self,
        project: str,
        runs: Runs,
        objects: ObjectStore,
        *,
        run_id: str,
        who: str,
        parameters: Mapping[str, Any],
        fresh: bool = False,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.project = project
        self.id = run_id
        self._runs = runs
        self._objects = objects
        self.fresh = fresh
        self._tell = tell
        self._outcome: tuple[RunStatus, str] = ("succeeded", "all steps ended well")
        self._over = threading.Event()
        self.run: Run = runs.start(
            project,
            run_id=run_id,
            who=who,
            pid=os.getpid(),
            host=socket.gethostname(),
            parameters=parameters,
        )
        self._beats = threading.Thread(target=self._beat, name="timonel-beat", daemon=True)

    def __enter__(self) -> "Runner":
        self._beats.start()
        self._say("run", "run", "running")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._over.set()
        status, reason = self._outcome
        if isinstance(error, KeyboardInterrupt | Stopped):
            status, reason = "stopped", "stopped while it ran"
        elif error is not None:
            status, reason = "failed", str(error) or type(error).__name__
        self._beats.join(timeout=5)
        try:
            self._runs.finish(self.id, status=status, reason=reason)
        except TimonelError:
            if error is None:
                raise
        self._say("run", "run", status, reason)

    def conclude(self, status: RunStatus, reason: str) -> None:
        """What the run will have ended as, unless an error ends it first."""
        self._outcome = (status, reason)

    def note(self, sentence: str) -> None:
        """Tell a person something that they should know of this run."""
        self._say("note", "note", "running", sentence)

    def step(
        self,
        name: str,
        act: Callable[[Report], Mapping[str, Any]],
        *,
        depends: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Do a step, or take its output from an earlier one with the same `depends`.

        Without `depends` it is always done. What `act` gives must be JSON; values under names that
        end in `key` are object keys, and an output whose objects are gone is made again.

        Raises:
            TimonelError: the step failed; the run's record says the same.
        """
        key = None if depends is None else _hash({"step": name, **depends})
        if key and not self.fresh:
            output = self._runs.output_of(key)
            if output is not None and self._has_objects(output):
                self._runs.step(self.id, name, status="cached", key=key, output=output, share=1.0)
                self._say("step", name, "cached", "taken from an earlier run", 1.0)
                return output
        self._runs.step(self.id, name, status="running", key=key)
        self._say("step", name, "running")
        with self._failing(name):
            made = dict(act(lambda phrase, share: self._progress(name, phrase, share)))
        note = made.pop("note", "")
        self._runs.step(self.id, name, status="succeeded", output=made, note=note, share=1.0)
        self._say("step", name, "succeeded", note, 1.0)
        return made

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            sentence = str(error) or type(error).__name__
            with suppress(TimonelError):  # the first error says more
                self._runs.step(self.id, name, status="failed", note=sentence)
            self._say("step", name, "failed", sentence)
            if isinstance(error, Exception) and not isinstance(error, TimonelError):
                last = traceback.extract_tb(error.__traceback__)[-1]
                raise RunFailed(
                    f"Step {name} failed: {type(error).__name__}: {sentence} "
                    f"({Path(last.filename).name}, line {last.lineno}).",
                    remedy="If the line is yours, correct it; the steps before are kept.",
                ) from error
            raise

    def _progress(self, name: str, phrase: str, share: float | None) -> None:
        self._runs.step(self.id, name, status="running", note=phrase, share=share)
        self._say("step", name, "running", phrase, share)

    def _has_objects(self, output: Mapping[str, Any]) -> bool:
        return all(
            self._objects.exists(value)
            for name, value in output.items()
            if name.endswith("key") and isinstance(value, str)
        )

    def _say(
        self,
        kind: Literal["run", "step", "note"],
        name: str,
        status: str,
        note: str = "",
        share: float | None = None,
    ) -> None:
        self._tell(Event(self.id, self.project, kind, name, status, note, share))

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_SECONDS):
            try:
                self._runs.beat(self.id)
            except RunFailed:
                return  # another process declared this run dead; its next step will say so
            except TimonelError:
                continue  # the database may be away for a while; the next beat says we live


def _hash(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
