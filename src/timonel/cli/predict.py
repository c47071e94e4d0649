"""`timonel predict`: an answer in this process, without a server."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from timonel.cli.output import Json, emit, settings

__all__ = ["predict"]


def predict(
    model: Annotated[str, typer.Argument(help="PROJECT, PROJECT/MODEL or PROJECT/MODEL@N.")],
    row: Annotated[
        str | None, typer.Argument(help="A row as JSON, a list of rows, or - for standard input.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture's file; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option("--model", help="The model of the project.")] = None,
    json: Json = False,
) -> None:
    """Predict with the version that serves, or with the one that ships with the project.

    Examples: timonel predict digits --image seven.png

    timonel predict penguins '{"bill_length_mm": 39.1, "bill_depth_mm": 18.7,
    "flipper_length_mm": 181, "body_mass_g": 3750}'
    """
    from timonel.errors import BadRequest
    from timonel.serving.local import load

    given = settings()
    if (row is None) == (not image):
        raise BadRequest(
            "Expected a row or pictures, got " + ("both." if image else "neither."),
            remedy="Give a row as JSON, or --image FILE.",
        )
    loaded = load(f"{model}/{name}" if name else model, given)
    inputs: list[Any] = list(image or [])
    if row is not None:
        rows = _rows(row)
        many = isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict)
        inputs = rows if many else [rows]
    for item in inputs:
        _show(loaded.predict(item), str(item) if image else None, as_json=json)


def _rows(text: str) -> Any:
    import json

    from timonel.errors import BadRequest

    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"Expected a row as JSON, got: {error}.") from None


def _show(answer: Any, source: str | None, *, as_json: bool) -> None:
    if as_json:
        odds = {str(label): value for label, value in answer.probabilities.items()}
        found = {"prediction": answer.label, "probabilities": odds, "version": answer.version}
        emit({**({"image": source} if source else {}), **found})
        return
    sure = answer.probabilities[answer.label]
    typer.echo(f"{source + ': ' if source else ''}{answer.label} ({sure:.1%}, {answer.version})")
