"""`timonel adopt`: a version that was registered by hand in MLflow, as champion."""

import getpass
from typing import Annotated

import typer

from timonel.cli.output import Json, settings
from timonel.cli.progress import showing

__all__ = ["adopt"]


def adopt(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT/MODEL[@N]",
            help="A version's number in MLflow's registry; without it, the one marked there.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="The model, where the argument is a project alone.")
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Also read a pickle, which runs whatever code it holds."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Convert, check and serve a version that was registered by hand in MLflow.

    A server does this by itself when the alias champion, or the stage Production, is set in MLflow.
    A version that cannot be read safely, answers otherwise once converted, or does not fit the
    champion's clients is refused; the exit code is then 4.

    Example: [bold]timonel adopt penguins/rf@5[/bold]
    """
    import os

    from timonel.cli.output import needs
    from timonel.errors import BadRequest
    from timonel.project import load_project

    needs("timonel adopt", "train")
    # MLflow draws a bar of its own in the middle of what is shown here.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from timonel.pipeline.adopt import adopt as adopt_version
    from timonel.pipeline.runner import Event

    given = settings()
    place, _, version = reference.rpartition("@") if "@" in reference else (reference, "", "")
    name, _, last = (place, "", model) if model else place.rpartition("/")
    if not name or not last or (version and not version.isdecimal()):
        raise BadRequest(
            f"Expected PROJECT/MODEL or PROJECT/MODEL@N, got {reference}.",
            remedy="For instance: timonel adopt penguins/rf@5",
        )
    definition = load_project(name)
    with showing(as_json=json) as tell:
        outcome = adopt_version(
            definition,
            given,
            model=last,
            number=int(version) if version else None,
            who=getpass.getuser(),
            allow_pickle=allow_pickle,
            tell=tell,
        )
        if outcome.run is None:
            tell(Event("", definition.name, "run", "adopt", "succeeded", outcome.sentence))
    if outcome.refused:
        raise typer.Exit(4)
