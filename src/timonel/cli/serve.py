"""`timonel up` and `timonel serve`: projects behind an address."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from timonel.cli.output import Json, emit, needs, settings

if TYPE_CHECKING:
    from timonel.project import Project
    from timonel.settings import Settings

__all__ = ["serve", "up"]

Names = Annotated[list[str] | None, typer.Argument(help="Bundled names, or paths to Python files.")]
Host = Annotated[
    str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1 (TIMONEL_HOST)")
]
Port = Annotated[
    int | None,
    typer.Option(help="Port to listen on; 0: a free one.", show_default="8000 (TIMONEL_PORT)"),
]
Workers = Annotated[
    int | None, typer.Option(help="Processes that answer.", show_default="2 (TIMONEL_WORKERS)")
]
Keys = Annotated[
    bool | None,
    typer.Option(
        "--keys", help="Ask for keys on a loopback address too.", show_default="TIMONEL_KEYS"
    ),
]
Open = Annotated[
    Literal["predict"] | None,
    typer.Option("--open", help="predict: predictions need no key.", show_default="TIMONEL_OPEN"),
]
Home = Annotated[
    Path | None,
    typer.Option(help="Folder that all is kept in.", show_default=".timonel (TIMONEL_HOME)"),
]


def up(
    projects: Names = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    home: Home = None,
    keys: Keys = None,
    open_to: Open = None,
    json: Json = False,
) -> None:
    """Serve projects at once with what they have, and train behind what has no champion.

    Each project is at /NAME/predict; documentation is at /docs. Ctrl-C stops it cleanly.

    Example: timonel up digits penguins
    """
    needs("timonel up", "train")
    given = settings(host=host, port=port, workers=workers, home=home, keys=keys, open=open_to)
    names = list(projects or ["digits", "penguins"])
    _serve(names, given, at_root=False, train=True, as_json=json)


def serve(
    projects: Annotated[list[str], typer.Argument(help="Bundled names, or paths to files.")],
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    home: Home = None,
    keys: Keys = None,
    open_to: Open = None,
    json: Json = False,
) -> None:
    """Serve projects that have a champion, without training.

    A single project answers at the root (/predict), as its own clients expect; several answer at
    /NAME/predict each.

    Example: timonel serve penguins --port 8000
    """
    given = settings(host=host, port=port, workers=workers, home=home, keys=keys, open=open_to)
    _serve(projects, given, at_root=len(projects) == 1, train=False, as_json=json)


def _refuse_locked_out(given: "Settings") -> None:
    """Do not begin to serve what nobody could ask.

    Raises:
        NoKeys: keys are asked for, there is none, and predictions are not open.
    """
    import time

    from timonel.errors import NoKeys, StoreError
    from timonel.serving.state import State, read_state
    from timonel.stores.database import Database
    from timonel.stores.keys import Keys as Stored

    if not given.locked or given.open == "predict":
        return
    try:
        found = bool(Stored(Database.open(given.database_url)).valid())
    except StoreError:  # workers go by what was told last, and so does this
        told = (read_state(given.serving_folder) or State()).keys
        found = any(key.expires is None or time.time() < key.expires for key in told)
    if not found:
        where = "--keys" if given.keys else f"an address that others reach ({given.host})"
        raise NoKeys(
            f"Expected a key for {where}, got none.",
            remedy="Make one with: timonel keys create NAME; or leave predictions open to all: "
            "--open predict",
        )


def _load(names: list[str]) -> "list[Project]":
    from timonel.errors import DefinitionError
    from timonel.project import load_project

    loaded = [load_project(name) for name in names]
    twice = {project.name for project in loaded if [p.name for p in loaded].count(project.name) > 1}
    if twice:
        raise DefinitionError(
            f"Expected projects with different names, got {', '.join(sorted(twice))} twice."
        )
    return loaded


def _teller(as_json: bool) -> Callable[[str, str], None]:
    """What to do with the lines of runs: pass JSON on, or show each project's events as lines."""
    if as_json:
        return lambda project, line: typer.echo(line, nl=False)
    from timonel.cli.progress import Lines

    views: dict[str, Lines] = {}

    def tell(project: str, line: str) -> None:
        import json

        from timonel.pipeline.runner import Event

        try:
            content = json.loads(line)
            event = Event(**content)
        except (ValueError, TypeError):
            typer.echo(f"{project}: {line.strip()}")
            return
        views.setdefault(project, Lines(f"{project}: "))(event)

    return tell


def _serve(
    names: list[str], given: "Settings", *, at_root: bool, train: bool, as_json: bool
) -> None:
    from timonel.serving.supervisor import Supervisor

    projects = _load(names)
    _refuse_locked_out(given)
    say: Callable[[str], None] = (lambda sentence: None) if as_json else typer.echo

    def on_ready() -> None:
        if as_json:
            emit({"address": server.address, "projects": [p.name for p in projects]})
            return
        paths = ["/predict"] if at_root else [f"/{project.name}/predict" for project in projects]
        say(f"Serving {', '.join(server.address + path for path in paths)}")
        say(f"Documentation at {server.address}/docs; Ctrl-C stops.")

    server = Supervisor(
        names,
        projects,
        given,
        at_root=at_root,
        say=say,
        tell=_teller(as_json),
        on_ready=on_ready,
        train=train,
    )
    server.run()
    say("Stopped.")
