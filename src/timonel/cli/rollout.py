"""`timonel rollout`: traffic that moves to a version step by step, watched and stopped by hand."""

import getpass
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from timonel.cli.output import Json, emit, settings, table
from timonel.cli.promote import Reason, parts_of

if TYPE_CHECKING:
    from timonel.rollouts import Rollout
    from timonel.settings import Settings
    from timonel.stores.rollouts import Rollouts, Standing

__all__ = ["app"]

app = typer.Typer(
    name="rollout",
    help="Move traffic to a version step by step; see what speaks for it, and stop it.",
    no_args_is_help=True,
)

Model = Annotated[str, typer.Argument(metavar="PROJECT/MODEL", help="The model.")]


@app.command("start")
def start(
    version: Annotated[str, typer.Argument(metavar="PROJECT/MODEL@N", help="The version.")],
    plan: Annotated[
        Literal["canary", "blue-green", "shadow", "all-at-once"] | None,
        typer.Option("--plan", help="How.", show_default="the project's, or canary"),
    ] = None,
    canary: Annotated[bool, typer.Option("--canary", help="The same as --plan canary.")] = False,
    steps: Annotated[
        str | None,
        typer.Option(help="A canary's shares, such as 0.05,0.5,1."),
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="The share (0..1) that is mirrored: blue-green, shadow.")
    ] = None,
    requests: Annotated[int | None, typer.Option(help="Least requests of each step.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Least seconds of each step.")] = None,
    longest: Annotated[float | None, typer.Option(help="Most seconds in all.")] = None,
    watch: Annotated[
        float | None, typer.Option(help="Seconds after the promotion that it may be undone.")
    ] = None,
    sticky: Annotated[
        str | None, typer.Option(help="The HTTP header that a caller is recognised by: canary.")
    ] = None,
    reason: Reason = None,
    force: Annotated[
        bool, typer.Option("--force", help="Although clients would notice, or no gate judged it.")
    ] = False,
    json: Json = False,
) -> None:
    """Begin to move traffic to a version; a running server takes it from there.

    It goes on by itself, step by step, as long as nothing speaks against the version, and rolls
    back at once if it fails more, is slower or is right less often than the plan allows.

    Example: [bold]timonel rollout start penguins/rf@3 --canary --steps 0.1,0.5,1[/bold]
    """
    from timonel.control.plan import traffic
    from timonel.ids import Ids
    from timonel.pipeline.promotion import make_challenger
    from timonel.stores.database import Database
    from timonel.stores.rollouts import Rollouts

    options = settings()
    project, model, number = parts_of(version, needs_number=True)
    given = {
        "steps": None if steps is None else _shares(steps),
        "share": share,
        "requests": requests,
        "seconds": seconds,
        "longest": longest,
        "watch": watch,
        "sticky": sticky,
    }
    chosen = _plan("canary" if canary else plan, project, given)
    who = getpass.getuser()
    make_challenger(options, project, model, number or 0, who=who, force=force)
    first = traffic(chosen, 0)
    with closing(Database.open(options.database_url)) as database:
        standing = Rollouts(database).start(
            project,
            model,
            number or 0,
            chosen,
            id=str(Ids()()),
            share=first.share,
            mirror=first.mirror,
            who=who,
            reason=reason or "begun by hand",
        )
    _tell(standing, as_json=json)
    if not json and standing.is_active and not _is_served(options, project):
        typer.echo("No server runs on this home: it goes on when one does.", err=True)


@app.command("status")
def status(
    name: Annotated[str | None, typer.Argument(metavar="[PROJECT[/MODEL]]", help="Whose.")] = None,
    limit: Annotated[int, typer.Option(help="Most rollouts that are shown.", min=1)] = 10,
    json: Json = False,
) -> None:
    """Rollouts that go on or have ended, newest first, and what is known of each.

    Example: [bold]timonel rollout status penguins/rf[/bold]
    """
    project, _, model = (name or "").partition("/")
    with closing(_open(settings())) as opened:
        found = _of(opened).list(project or None, model or None, limit)
    if json:
        emit([_values(standing) for standing in found])
        return
    table(
        "Rollouts",
        ("version", "against", "plan", "state", "step", "share", "since", "what is known"),
        [_row(standing) for standing in found],
    )


@app.command("pause")
def pause(model: Model, reason: Reason = None, json: Json = False) -> None:
    """Stay at the present share; what speaks against the version still rolls it back.

    Example: [bold]timonel rollout pause penguins/rf[/bold]
    """
    with closing(_open(settings())) as opened:
        rollouts, standing = _active(_of(opened), model)
        said = {"who": getpass.getuser(), "reason": reason or "paused by hand"}
        _tell(rollouts.pause(standing.id, **said), as_json=json)


@app.command("resume")
def resume(model: Model, reason: Reason = None, json: Json = False) -> None:
    """Go on after a pause; the present step's time begins anew.

    Example: [bold]timonel rollout resume penguins/rf[/bold]
    """
    with closing(_open(settings())) as opened:
        rollouts, standing = _active(_of(opened), model)
        said = {"who": getpass.getuser(), "reason": reason or "resumed by hand"}
        _tell(rollouts.resume(standing.id, **said), as_json=json)


@app.command("promote")
def promote(model: Model, reason: Reason = None, json: Json = False) -> None:
    """Make the challenger champion now, whatever is still waited for.

    Example: [bold]timonel rollout promote penguins/rf --reason "seen enough"[/bold]
    """
    with closing(_open(settings())) as opened:
        rollouts, standing = _active(_of(opened), model)
        done = rollouts.promote(
            standing.id,
            who=getpass.getuser(),
            reason=reason or "promoted by hand",
            evidence=standing.evidence,
        )
        _tell(done, as_json=json)


@app.command("abort")
def abort(model: Model, reason: Reason = None, json: Json = False) -> None:
    """End a rollout: the champion answers all again, and the version may be tried another time.

    Example: [bold]timonel rollout abort penguins/rf[/bold]
    """
    with closing(_open(settings())) as opened:
        rollouts, standing = _active(_of(opened), model)
        said = {"who": getpass.getuser(), "reason": reason or "aborted by hand"}
        _tell(rollouts.abort(standing.id, **said), as_json=json)


def _open(options: "Settings") -> Any:
    from timonel.stores.database import Database

    return Database.open(options.database_url)


def _of(database: Any) -> "Rollouts":
    from timonel.stores.rollouts import Rollouts

    return Rollouts(database)


def _active(rollouts: "Rollouts", reference: str) -> "tuple[Rollouts, Standing]":
    """The rollout of a model that goes on. Raises NotFound."""
    from timonel.errors import NotFound

    project, model, _ = parts_of(reference, needs_number=False)
    for standing in rollouts.active(project):
        if standing.model == model:
            return rollouts, standing
    raise NotFound(
        f"Expected a rollout of {project}/{model} that goes on, got none.",
        remedy=f"Begin one: timonel rollout start {project}/{model}@N",
    )


def _plan(kind: str | None, project: str, given: dict[str, Any]) -> "Rollout":
    """The plan asked for, or the project's, with the values that were given.

    Raises:
        BadRequest: the plan has no such value.
    """
    from dataclasses import fields

    from timonel.errors import BadRequest, TimonelError
    from timonel.project import load_project
    from timonel.rollouts import AllAtOnce, BlueGreen, Canary, Shadow

    kinds: dict[str, Rollout] = {
        "canary": Canary(),
        "blue-green": BlueGreen(),
        "shadow": Shadow(),
        "all-at-once": AllAtOnce(),
    }
    own: Rollout | None = None
    with suppress(TimonelError):  # one that only its path leads to has the default plan
        own = load_project(project).rollout
    base = kinds[kind] if kind else own if own not in (None, AllAtOnce()) else Canary()
    if own is not None and type(own) is type(base):
        base = own
    values = {name: value for name, value in given.items() if value is not None}
    known = {field.name for field in fields(base)}
    if unknown := [name for name in values if name not in known]:
        raise BadRequest(
            f"Expected values of a {type(base).__name__} ({', '.join(sorted(known))}), got "
            f"{', '.join(unknown)}.",
            remedy="Leave them out, or choose another --plan.",
        )
    return replace(base, **values)


def _shares(text: str) -> tuple[float, ...]:
    from timonel.errors import BadRequest

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadRequest(
            f"Expected shares such as 0.05,0.5,1, got {text!r}.", remedy="Write --steps 0.05,0.5,1"
        ) from None


def _is_served(options: "Settings", project: str) -> bool:
    from timonel.serving.roster import running

    roster = running(options.serving_folder)
    return roster is not None and any(name.startswith(f"{project}/") for name in roster.models)


def _values(standing: "Standing") -> dict[str, Any]:
    from timonel.rollouts import plan_to_dict

    values = vars(standing) | {"plan": plan_to_dict(standing.plan), "version": standing.label}
    return dict(values)


def _row(standing: "Standing") -> tuple[object, ...]:
    from datetime import datetime

    steps = getattr(standing.plan, "steps", None)
    moved = f"{standing.share:.0%}" + (
        f", mirrors {standing.mirror:.0%}" if standing.mirror else ""
    )
    return (
        standing.label,
        f"@{standing.champion}",
        type(standing.plan).__name__,
        standing.state.replace("_", " "),
        f"{standing.step + 1} of {len(steps)}" if steps else "-",
        moved,
        datetime.fromtimestamp(standing.since).astimezone().isoformat(" ", "seconds"),
        standing.reason,
    )


def _tell(standing: "Standing", *, as_json: bool) -> None:
    if as_json:
        emit(_values(standing))
        return
    moved = f", {standing.share:.0%} of the requests" if standing.share else ""
    seen = f", {standing.mirror:.0%} of them mirrored" if standing.mirror else ""
    typer.echo(
        f"{standing.label} against @{standing.champion}: {standing.state.replace('_', ' ')}"
        f"{moved}{seen}. {standing.reason}"
    )
