"""`timonel new`: a folder with a project that runs unchanged."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check_name", "new"]


def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, - and _.")],
    place: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the project's folder is made.")
    ] = Path(),
) -> None:
    """Start a project: a definition, rows to train it on, and the next commands.

    Example: [bold]timonel new churn[/bold], then [bold]timonel run churn/churn.py[/bold]
    """
    from timonel.cli import scaffold
    from timonel.errors import BadRequest, StoreError

    check_name(name)
    folder = place / name
    if folder.exists() or folder.is_symlink():
        raise BadRequest(
            f"Expected no folder {folder} yet, got one that exists.",
            remedy="Choose another name, or another place with --dir.",
        )
    path = folder / f"{name}.py"
    rows = scaffold.rows()
    files = {
        path: scaffold.definition(name),
        folder / "rows.csv": rows,
        folder / "README.md": scaffold.readme(name, f"{name}/{name}.py", rows.count("\n") - 1),
    }
    try:
        folder.mkdir(parents=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"Expected to make {folder}, got: {error.strerror}.",
            remedy="Choose a place that can be written with --dir.",
        ) from error
    typer.echo(f"{path} defines the project {name}; its rows.csv is generated. Next:\n")
    typer.echo(f"  timonel check {_word(path)}")
    typer.echo(f"  timonel run {_word(path)}")
    typer.echo(f"  timonel serve {_word(path)}")
    typer.echo(f"  curl 127.0.0.1:8000/predict -d '{scaffold.EXAMPLE}'")


def check_name(name: str) -> None:
    """Raise BadRequest for a name that no project may have, or that another one has."""
    from timonel.errors import BadRequest
    from timonel.project import BUNDLED, NAME, RESERVED

    if not NAME.fullmatch(name):
        raise BadRequest(
            f"Expected a name of lower-case letters, digits, - and _, starting with a letter, "
            f"got {name!r}.",
            remedy="For instance: timonel new churn",
        )
    if name in RESERVED or name in BUNDLED:
        owner = "the API" if name in RESERVED else "a bundled project"
        raise BadRequest(
            f"Expected a name that is free, got {name!r}, which {owner} has.",
            remedy="Choose another name.",
        )


def _word(path: Path) -> str:
    from shlex import quote

    return quote(str(path))
