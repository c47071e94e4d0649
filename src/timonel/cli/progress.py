"""How a run shows itself: bars on a terminal, lines elsewhere, JSON for a script."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from timonel.pipeline.runner import Event

__all__ = ["showing"]

_QUIET_SECONDS = 5.0


@contextmanager
def showing(*, as_json: bool, prefix: str = "") -> Iterator[Callable[["Event"], None]]:
    """Something to tell events to; `prefix` stands before each line or bar."""
    if as_json:
        yield lambda event: typer.echo(event.to_json())
        return
    if not sys.stdout.isatty():
        yield Lines(prefix)
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as progress:
        yield Bars(progress, prefix)


class Lines:
    """A line when a step begins to work, ends, or has not been heard of for a while."""

    def __init__(
        self,
        prefix: str,
        say: Callable[[str], None] = typer.echo,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = prefix
        self._say = say
        self._timer = timer
        self._last = 0.0

    def __call__(self, event: "Event") -> None:
        """Print the event, unless it only says that the step goes on."""
        share = "" if event.share is None else f" {event.share:.0%}"
        line = f"{self._prefix}{event.name}: {event.status}"
        if event.kind == "run" and event.status == "running":
            line = f"{self._prefix}run {event.run} of {event.project}"
        elif event.kind == "note":
            line = f"{self._prefix}{event.note}"
        elif event.kind == "step" and event.status == "running":
            now = self._timer()
            if event.note and now - self._last < _QUIET_SECONDS:
                return
            self._last = now
            line = f"{self._prefix}{event.name}:{share} {event.note or '…'}"
        elif event.note:
            line += f" ({event.note})"
        self._say(line)


class Bars:
    """A bar for each step."""

    def __init__(self, progress: "Progress", prefix: str) -> None:
        self._progress = progress
        self._prefix = prefix
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: "Event") -> None:
        """Move the bar of the event's step."""
        if event.kind == "note":
            self._progress.console.print(f"{self._prefix}{event.note}", markup=False)
            return
        if event.kind == "run":
            if event.status != "running":
                sentence = f"{self._prefix}run {event.run}: {event.status}. {event.note}"
                self._progress.console.print(sentence, markup=False)
            return
        if event.name not in self._tasks:
            self._tasks[event.name] = self._progress.add_task(
                f"{self._prefix}{event.name}", total=None, note=""
            )
        task = self._tasks[event.name]
        note = event.note.replace("[", r"\[")[:100]
        if event.status == "running":
            done = None if event.share is None else event.share
            self._progress.update(
                task, note=note, total=None if done is None else 1, completed=done
            )
        else:
            failed = event.status == "failed"
            self._progress.update(task, note=note, total=1, completed=0 if failed else 1)
            self._progress.stop_task(task)
