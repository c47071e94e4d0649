"""`timonel up` and `timonel serve`: projects behind an address."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timonel.cli.output import Json, emit, needs, settings

if TYPE_CHECKING:
    from timonel.project import Project
    from timonel.serving.supervisor import Supervisor
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
    json: Json = False,
) -> None:
    """Serve projects at once with what they have, and train behind what has no champion.

    Each project is at /NAME/predict; documentation is at /docs. Ctrl-C stops it cleanly.

    Example: timonel up digits penguins
    """
    needs("timonel up", "train")
    from timonel.serving.launcher import Launcher

    given = settings(host=host, port=port, workers=workers, home=home)
    names = list(projects or ["digits", "penguins"])
    loaded = _load(names)
    say = _sayer(json)
    launcher = Launcher(given, _teller(json))
    server = _supervisor(names, loaded, given, at_root=False, say=say, as_json=json)
    ready = server.on_ready

    def on_ready() -> None:
        ready()
        launcher.start(list(zip(names, loaded, strict=True)))

    server.on_ready = on_ready
    try:
        server.run()
    finally:
        launcher.stop()
    say("Stopped.")


def serve(
    projects: Annotated[list[str], typer.Argument(help="Bundled names, or paths to files.")],
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Serve projects that have a champion, without training.

    A single project answers at the root (/predict), as its own clients expect; several answer at
    /NAME/predict each.

    Example: timonel serve penguins --port 8000
    """
    given = settings(host=host, port=port, workers=workers, home=home)
    say = _sayer(json)
    loaded = _load(projects)
    _supervisor(projects, loaded, given, at_root=len(projects) == 1, say=say, as_json=json).run()
    say("Stopped.")


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


def _sayer(as_json: bool) -> Callable[[str], None]:
    return (lambda sentence: None) if as_json else typer.echo


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


def _supervisor(
    names: list[str],
    projects: "list[Project]",
    given: "Settings",
    *,
    at_root: bool,
    say: Callable[[str], None],
    as_json: bool,
) -> "Supervisor":
    from timonel.serving.supervisor import Supervisor

    def on_ready() -> None:
        if as_json:
            emit({"address": server.address, "projects": [p.name for p in projects]})
            return
        paths = ["/predict"] if at_root else [f"/{project.name}/predict" for project in projects]
        say(f"Serving {', '.join(server.address + path for path in paths)}")
        say(f"Documentation at {server.address}/docs; Ctrl-C stops.")

    server = Supervisor(names, projects, given, at_root=at_root, say=say, on_ready=on_ready)
    return server
