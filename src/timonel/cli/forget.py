"""`timonel journal prune` and `timonel journal delete`: what goes, by age or because it must."""

import getpass
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from timonel.cli.output import Json, emit, settings, table
from timonel.cli.stores import open_database

if TYPE_CHECKING:
    from timonel.settings import Settings
    from timonel.stores.database import Database

__all__ = ["delete", "prune"]


def prune(
    project: Annotated[
        str | None,
        typer.Argument(help="A project's name or file.", show_default="those of TIMONEL_PROJECTS"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is too old.")] = False,
    json: Json = False,
) -> None:
    """Delete what is older than the retention that projects declare; a server does it every hour.

    Example: [bold]timonel journal prune penguins --dry-run[/bold]
    """
    from timonel.control.retention import prune as act
    from timonel.project import load_project
    from timonel.stores.objects import ObjectStore

    options = settings()
    names = [project] if project else [name.strip() for name in options.projects.split(",")]
    projects = [load_project(name) for name in names]
    with closing(_database(options)) as database:
        objects = ObjectStore.open(options.objects_url)
        found = {
            one.name: act(
                options,
                database,
                objects,
                one.name,
                one.retention,
                who=getpass.getuser(),
                dry_run=dry_run,
            )
            for one in projects
        }
    if json:
        emit({name: asdict(one) for name, one in found.items()})
        return
    columns = ["segments", "rows", "labels", "datasets"]
    table(
        "too old" if dry_run else "deleted",
        ["project", *columns],
        [[name, *(getattr(one, column) for column in columns)] for name, one in found.items()],
    )


def delete(
    project: Annotated[str, typer.Argument(help="The project whose answers they are.")],
    identifier: Annotated[
        list[str] | None,
        typer.Option("--id", help="A prediction's id, or ID.n for its row n; may be repeated."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="All rows with this value of an input; of several, those that have all.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Forget answers: in segments, labels, collected datasets and what waits to be exported.

    It may be run again, and goes on where it was killed. Files that you exported are yours to
    delete; so are backups. The text log has no ids, and stays.

    Example: [bold]timonel journal delete penguins --id 01a1f957-f998-7000-84db-70c947e9c63e[/bold]
    """
    from timonel.journal.chosen import chosen
    from timonel.journal.forget import forget
    from timonel.stores.objects import ObjectStore

    what = chosen(identifier or (), key or ())
    options = settings()
    with closing(_database(options)) as database:
        done = forget(
            options,
            database,
            ObjectStore.open(options.objects_url),
            project,
            what,
            who=getpass.getuser(),
        )
    if json:
        emit(asdict(done))
        return
    typer.echo(
        f"{done.rows:,} rows in {done.segments:,} segments and {done.labels:,} labels of "
        f"{project} were deleted."
    )
    for name in done.datasets:
        typer.echo(f"The collected dataset {name} was deleted: it may have had one of the rows.")
    for version in done.versions:
        typer.echo(f"{version} was trained on it, and has a sample of its rows in its files.")
    for note in done.notes:
        typer.echo(note, err=True)


def _database(options: "Settings") -> "Database":
    """The database for writing. Raises NotFound while there is none yet."""
    from timonel.errors import NotFound
    from timonel.stores.database import Database

    if open_database(options) is None:
        raise NotFound(
            f"There is no database at {options.database_url}, so nothing was answered yet.",
            remedy="Name another home with TIMONEL_HOME.",
        )
    return Database.open(options.database_url)
