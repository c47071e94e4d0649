"""What commands print: for a person on a terminal, or JSON for a script."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from timonel.errors import MissingExtra, TimonelError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from timonel.settings import Settings

__all__ = ["Json", "emit", "fail", "needs", "settings", "table"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def emit(value: Any) -> None:
    """Print one JSON document on a line of its own."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; plain tab-separated lines where the output is not a terminal."""
    if not sys.stdout.isatty():
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(" ".join(str(cell).split()) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table(*columns, title=title, title_justify="left")
    for row in rows:
        view.add_row(*(Text(str(cell)) for cell in row))
    Console().print(view)


def fail(error: TimonelError, *, as_json: bool = False) -> NoReturn:
    """Say what went wrong and what to do, and leave with the error's exit code."""
    if as_json:
        emit({"error": error.message, "remedy": error.remedy, "kind": type(error).__name__})
    else:
        typer.secho("Error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
        typer.echo(error.message, err=True)
        if error.remedy:
            typer.echo(error.remedy, err=True)
    sys.exit(error.exit_code)


def needs(what: str, extra: str) -> None:
    """Fail now, naming the extra, rather than in the middle of the work.

    Raises:
        MissingExtra: a package of that extra is not installed.
    """
    from importlib.util import find_spec

    packages = {"train": ("sklearn", "mlflow", "skl2onnx", "optuna", "skops", "scipy")}
    if not all(find_spec(name) for name in packages[extra]):
        raise MissingExtra(what, extra)


def settings(**given: Any) -> "Settings":
    """The settings of the environment, with the options that were given.

    Raises:
        TimonelError: a variable or an option has a value that is not allowed, naming it.
    """
    from pydantic import ValidationError

    from timonel.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise TimonelError(_sentence(error), remedy="Correct it or leave it out.") from None


def _sentence(error: "ValidationError") -> str:
    parts = [
        f"TIMONEL_{'_'.join(str(part) for part in item['loc']).upper().removeprefix('TIMONEL_')}: "
        f"{item['msg']}, got {item['input']!r}."
        for item in error.errors()
    ]
    return " ".join(parts)
