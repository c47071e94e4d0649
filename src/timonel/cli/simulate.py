"""`timonel simulate`: a project's life in minutes, with real requests to a server of this host."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from timonel.cli.output import Json, emit, needs, settings, table

if TYPE_CHECKING:
    import threading

    from timonel.project import Project
    from timonel.settings import Settings
    from timonel.simulate.session import Summary
    from timonel.simulate.timeline import Moment
    from timonel.simulate.traffic import Counts

__all__ = ["simulate"]

_SHOW_SECONDS = 5.0
_MOST_REQUESTS = 1_000_000
_LONGEST = 86_400.0
_READY_SECONDS = 1_800.0
_INTERRUPTED = 130  # as shells have it


def simulate(
    project: Annotated[str, typer.Argument(help="A bundled name, or a path to a Python file.")],
    rate: Annotated[float, typer.Option(help="Requests a second.", min=0.1, max=10_000)] = 50.0,
    seconds: Annotated[float, typer.Option(help="Most seconds.", min=0.5, max=_LONGEST)] = 120.0,
    requests: Annotated[
        int | None, typer.Option(help="Most requests.", min=1, max=_MOST_REQUESTS)
    ] = None,
    drift: Annotated[bool, typer.Option("--drift", help="The rows drift after a while.")] = False,
    kind: Annotated[
        Literal[
            "covariate", "categories", "labels", "concept", "rotation", "inversion", "thickness"
        ]
        | None,
        typer.Option(help="How they drift.", show_default="covariate; of pictures, rotation"),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="How much; 1 is a standard deviation, or 40°.", min=0.01, max=10)
    ] = 1.0,
    after: Annotated[
        float, typer.Option(help="The share (0..1) of the traffic before it.", min=0, max=1)
    ] = 0.3,
    labels: Annotated[
        float, typer.Option(help="The share (0..1) whose true label is told.", min=0, max=1)
    ] = 0.0,
    delay: Annotated[
        float, typer.Option(help="Seconds until a label is told.", min=0, max=_LONGEST)
    ] = 0.0,
    good_challenger: Annotated[
        bool, typer.Option("--good-challenger", help="Roll out a copy of the champion.")
    ] = False,
    bad_challenger: Annotated[
        bool, typer.Option("--bad-challenger", help="One that errs on a fifth of the rows.")
    ] = False,
    slow_challenger: Annotated[
        bool, typer.Option("--slow-challenger", help="One that takes 60 ms longer.")
    ] = False,
    failing_challenger: Annotated[
        bool, typer.Option("--failing-challenger", help="One that fails on a fifth of the rows.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Whose challenger.", show_default="the project's first")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A server's address.", show_default="that of the home")
    ] = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Start a server, in a home for this time unless one is given."
        ),
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(help="The server's home.", show_default=".timonel (TIMONEL_HOME)"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draw other rows.")] = 0,
    clients: Annotated[int, typer.Option(help="Connections at once.", min=1, max=64)] = 4,
    yes: Annotated[
        bool, typer.Option("--yes", help="Make a challenger in a home that is not this command's.")
    ] = False,
    json: Json = False,
) -> None:
    """Ask a server what the project's held-out rows ask, and show what it makes of that.

    Requests, labels and challengers are real: they are in the home's journal and history for good.
    It ends by itself, soon after a rollout that began meanwhile has; Ctrl-C ends it at once. The
    exit code is 1 if a request failed.

    Example: [bold]timonel simulate digits --serve --drift --labels 0.5[/bold]
    """
    from timonel.errors import BadRequest
    from timonel.project import Read, load_project
    from timonel.simulate.drifts import default_kind
    from timonel.simulate.session import Simulation
    from timonel.simulate.session import simulate as run
    from timonel.simulate.traffic import Feedback, Flow

    needs("timonel simulate", "train")
    definition = load_project(project)
    made = {
        "good": good_challenger,
        "bad": bad_challenger,
        "slow": slow_challenger,
        "failing": failing_challenger,
    }
    chosen: list[Any] = [name for name, wanted in made.items() if wanted]
    if len(chosen) > 1:
        raise BadRequest(f"Expected one challenger at a time, got {' and '.join(chosen)}.")
    if chosen and not yes and not (serve and home is None):
        raise BadRequest(
            "Expected --yes: a challenger is a real version, and is rolled out to real requests.",
            remedy="Add --yes if this home may have it, or --serve for a home of its own.",
        )
    with ExitStack() as stack:
        stopping = stack.enter_context(_interrupts())
        given, address = _server(stack, definition, home, url, serve=serve)
        if serve:
            _wait(address, stopping, as_json=json)
        if stopping.is_set():
            raise typer.Exit(_INTERRUPTED)
        folder = settings().data
        data = Read(
            folder=folder.expanduser() if folder else None,
            cache=settings(home=home).cache_folder,
            database=settings(home=home).database_url,
        )
        view = stack.enter_context(_view(json))
        summary = run(
            Simulation(
                project=definition,
                address=address,
                data=data,
                home=given,
                flow=Flow(
                    rate=rate, seconds=seconds, requests=requests, after=after, clients=clients
                ),
                feedback=Feedback(share=labels, delay=delay),
                kind=kind or (default_kind(definition) if drift else None),
                strength=strength,
                challenger=chosen[0] if chosen else None,
                model=None if model is None else definition.model(model).name,
                seed=seed,
            ),
            tell=view.tell,
            show=view.show,
            stopping=stopping,
        )
    _conclude(summary, as_json=json)


def _server(
    stack: ExitStack, project: "Project", home: Path | None, url: str | None, *, serve: bool
) -> "tuple[Settings | None, str]":
    """The settings of the server's home, where that is at hand, and its address."""
    import tempfile

    from timonel.errors import BadRequest, NotFound
    from timonel.serving.roster import running
    from timonel.settings import Settings
    from timonel.simulate.server import own_server

    given = settings(home=home)
    if serve:
        if url is not None:
            raise BadRequest("Expected --serve or --url, got both.")
        if home is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="timonel-"))
            given = Settings(home=Path(folder), database=None, objects=None, registry=None)
        if "journal_rotate_seconds" not in given.model_fields_set:
            given = given.model_copy(update={"journal_rotate_seconds": 1.0})
        return given, stack.enter_context(own_server(project.reference, given))
    roster = running(given.serving_folder)
    if url is None and roster is None:
        raise NotFound(
            f"Expected a server on the home {given.root}, got none.",
            remedy=f"Start one with: timonel serve {project.reference}; or have one made: --serve",
        )
    is_this = roster is not None and (url is None or url.rstrip("/") == roster.address)
    address = url or (roster.address if roster else "")
    return (given if is_this else None), address.rstrip("/")


def _wait(address: str, stopping: "threading.Event", *, as_json: bool) -> None:
    from timonel.simulate.server import wait_ready

    if not as_json:
        typer.echo(f"A server at {address}; waiting until its models answer …")
    wait_ready(address, _READY_SECONDS, stopping.is_set)


@contextmanager
def _interrupts() -> "Iterator[threading.Event]":
    """An event that Ctrl-C or SIGTERM sets: what was begun is then ended cleanly."""
    import signal
    import threading
    from types import FrameType

    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _View:
    """Prints what happens, and now and then how far it is."""

    def __init__(self, say: Callable[[str], None], show: Callable[[str], None] | None) -> None:
        self._say = say
        self._show = show
        self._last = 0.0

    def tell(self, moment: "Moment") -> None:
        self._say(_line(moment))

    def show(self, counts: "Counts") -> None:
        if self._show is not None:
            self._show(_progress(counts))
        elif counts.seconds - self._last >= _SHOW_SECONDS:
            self._last = counts.seconds
            self._say(_progress(counts))


class _JsonView(_View):
    """The same as JSON, one document a line."""

    def __init__(self) -> None:
        super().__init__(typer.echo, None)

    def tell(self, moment: "Moment") -> None:
        emit({"kind": "moment", **vars(moment)})

    def show(self, counts: "Counts") -> None:
        if counts.seconds - self._last >= _SHOW_SECONDS:
            self._last = counts.seconds
            emit({"kind": "counts", **vars(counts)})


@contextmanager
def _view(as_json: bool) -> Iterator[_View]:
    if as_json:
        yield _JsonView()
        return
    if not sys.stdout.isatty():
        yield _View(typer.echo, None)
        return
    from rich.console import Console

    console = Console()
    with console.status("") as status:
        yield _View(lambda line: console.print(line, markup=False, highlight=False), status.update)


def _line(moment: "Moment") -> str:
    return f"{moment.at:7.1f} s  {moment.stage}: {moment.subject}. {moment.sentence}".rstrip()


def _progress(counts: "Counts") -> str:
    rate = counts.requests / counts.seconds if counts.seconds else 0.0
    shares = ", ".join(
        f"{name} {count:,}" for name, count in sorted(counts.versions.items(), reverse=True)
    )
    return (
        f"{counts.seconds:7.1f} s  {counts.requests:,} requests ({rate:,.0f}/s), "
        f"{counts.failures:,} failed, {counts.labels:,} labels; {shares or 'no answer yet'}"
    )


def _conclude(summary: "Summary", *, as_json: bool) -> None:
    counts = summary.counts
    if as_json:
        emit({"kind": "summary", **vars(counts), "stages": summary.stages()})
    else:
        for what, times in {**counts.failed, **counts.refused}.items():
            typer.echo(f"{times:,} ×  {what}", err=True)
        rows: list[tuple[object, object]] = [
            ("requests", f"{counts.requests:,}"),
            ("failed", f"{counts.failures:,}"),
            ("labels", f"{counts.labels:,}"),
            *((f"answered by {name}", f"{n:,}") for name, n in sorted(counts.versions.items())),
            *((stage, f"after {at:,.1f} s") for stage, at in summary.stages().items()),
        ]
        table("simulated", ("what", "how many, or when"), rows)
    if counts.failures:
        raise typer.Exit(1)
