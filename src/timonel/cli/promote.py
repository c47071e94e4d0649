"""`timonel promote` and `timonel rollback`: which version serves."""

import getpass
import time
from typing import TYPE_CHECKING, Annotated

import typer

from timonel.cli.output import Json, emit, settings

if TYPE_CHECKING:
    from timonel.pipeline.promotion import Change
    from timonel.settings import Settings

__all__ = ["Reason", "parts_of", "promote", "rollback"]

Reason = Annotated[
    str | None, typer.Option(help="Why, for the audit log.", show_default="asked by hand")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Until every worker of a running server serves it.")
]


def promote(
    version: Annotated[str, typer.Argument(metavar="PROJECT/MODEL@N", help="The version.")],
    reason: Reason = None,
    wait: Wait = False,
    force: Annotated[
        bool, typer.Option("--force", help="Although clients would notice, or no gate judged it.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a version champion: it is checked, loaded by every worker, and only then answers.

    One that cannot be loaded, or that clients of the champion would notice, is refused; the exit
    code is then 4 or 5.

    Example: [bold]timonel promote penguins/rf@3 --wait[/bold]
    """
    began = time.monotonic()
    from timonel.pipeline.promotion import promote as act

    options = settings()
    project, model, number = parts_of(version, needs_number=True)
    change = act(
        options,
        project,
        model,
        number or 0,
        who=getpass.getuser(),
        reason=reason or "promoted by hand",
        force=force,
    )
    _tell(options, change, "retired", wait=wait, as_json=json, began=began)


def rollback(
    model: Annotated[str, typer.Argument(metavar="PROJECT/MODEL", help="The model.")],
    to: Annotated[
        int | None,
        typer.Option(help="The version's number.", show_default="the champion before"),
    ] = None,
    reason: Reason = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Take the champion out of service for good, and let the one before it answer again.

    Workers keep that one loaded, so that it answers within a second.

    Example: [bold]timonel rollback penguins/rf --wait --reason "wrong on chinstraps"[/bold]
    """
    began = time.monotonic()
    from timonel.pipeline.promotion import roll_back

    options = settings()
    project, name, _ = parts_of(model, needs_number=False)
    change = roll_back(
        options,
        project,
        name,
        to=to,
        who=getpass.getuser(),
        reason=reason or "rolled back by hand",
    )
    _tell(options, change, "rolled_back", wait=wait, as_json=json, began=began)


def parts_of(reference: str, *, needs_number: bool) -> tuple[str, str, int | None]:
    """Project, model and number of `penguins/rf@3`, or of `penguins/rf` where none is needed.

    Raises:
        BadRequest: it is not of that form.
    """
    from timonel.errors import BadRequest

    place, found, number = reference.partition("@")
    project, _, model = place.partition("/")
    is_number = number.isdecimal() and len(number) < 10
    if (
        not project
        or not model
        or "/" in model
        or bool(found) != needs_number
        or (needs_number and not is_number)
    ):
        form = "PROJECT/MODEL@N" if needs_number else "PROJECT/MODEL"
        raise BadRequest(
            f"Expected {form}, got {reference!r}.",
            remedy="See the versions there are with: timonel models list",
        )
    return project, model, int(number) if needs_number else None


def _tell(
    options: "Settings", change: "Change", became: str, *, wait: bool, as_json: bool, began: float
) -> None:
    from timonel.pipeline.promotion import wait_served

    workers = wait_served(options, change.version) if wait else None
    seconds = time.monotonic() - began
    former = change.before.label if change.before else None
    if as_json:
        emit(
            {
                "champion": change.version.label,
                "former": former,
                "notes": list(change.notes),
                "workers": workers,
                "seconds": round(seconds, 3),
            }
        )
        return
    for note in change.notes:
        typer.echo(f"Note: {note}", err=True)
    typer.echo(
        f"{change.version.label} is champion" + (f"; {former} is {became}." if former else ".")
    )
    if wait and workers is None:
        typer.echo("No server runs on this home that serves it.")
    elif workers is not None:
        some = "1 worker serves" if workers == 1 else f"{workers} workers serve"
        typer.echo(f"{some} it, after {seconds:.2f} s.")
