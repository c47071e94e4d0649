"""`timonel keys`: who may call a server, made, listed, given a new secret, ended."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from timonel.cli.output import Json, emit, settings, table

if TYPE_CHECKING:
    from timonel.stores.keys import Key, Keys, Scope

__all__ = ["app"]

app = typer.Typer(
    help="Keys of the HTTP API: make, list, rotate and revoke them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Reference = Annotated[str, typer.Argument(metavar="NAME", help="A key's name or id.")]

_SPAN = re.compile(r"(\d{1,6})([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for; one valid key has it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="predict or operate; give it twice for both.", show_default="predict"),
    ] = None,
    project: Annotated[
        list[str] | None,
        typer.Option(help="A project that it is for; may be repeated.", show_default="all"),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Most requests a minute.", show_default="any number")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="After which it ends: 30d, 12h, 90m.", show_default="never")
    ] = None,
    json: Json = False,
) -> None:
    """Make a key and print it; nobody can print it again.

    Callers send it as `Authorization: Bearer KEY` or `X-Api-Key: KEY`. Servers of this home know
    it within a second.

    Example: [bold]timonel keys create shop --project digits --rate 600[/bold]
    """
    keys, now = _keys()
    key, token = keys.create(
        name,
        who=_who(),
        scopes=cast("list[Scope]", scope or ["predict"]),  # checked there
        projects=project or None,
        rate=rate,
        expires=None if expires is None else now + _seconds(expires, "--expires"),
    )
    _show(key, token, as_json=json)


@app.command("list")
def list_keys(json: Json = False) -> None:
    """List every key there ever was, without its secret.

    Example: [bold]timonel keys list[/bold]
    """
    from timonel.cli.stores import open_database
    from timonel.stores.keys import Keys

    database = open_database(settings())
    found = Keys(database).list() if database else []
    now = database.clock() if database else 0.0
    if json:
        emit([_facts(key, now) for key in found])
        return
    if not found:
        typer.echo("No keys yet. Make one with: timonel keys create NAME", err=True)
    table(
        "keys",
        ["id", "name", "state", "scopes", "projects", "rate", "created (UTC)", "expires (UTC)"],
        [
            [
                key.id,
                key.name,
                _state(key, now),
                " ".join(key.scopes),
                " ".join(key.projects) if key.projects else "all",
                f"{key.rate}/min" if key.rate else "–",
                _time(key.created),
                _time(key.expires) if key.expires else "–",
            ]
            for key in found
        ],
    )


@app.command("rotate")
def rotate(
    reference: Reference,
    overlap: Annotated[
        str, typer.Option(help="How long the secret before stays good: 24h, 30m; 0: not at all.")
    ] = "24h",
    json: Json = False,
) -> None:
    """Give a key a new secret and print it; the one before stays good for the overlap.

    Example: [bold]timonel keys rotate shop --overlap 7d[/bold]
    """
    keys, _ = _keys()
    key, token = keys.rotate(reference, who=_who(), overlap=_seconds(overlap, "--overlap"))
    _show(key, token, as_json=json)
    if key.former_until and not json:
        typer.echo(f"The former one stays good until {_time(key.former_until)} UTC.", err=True)


@app.command("revoke")
def revoke(reference: Reference, json: Json = False) -> None:
    """End a key; running servers refuse it within a second.

    Example: [bold]timonel keys revoke shop[/bold]
    """
    keys, now = _keys()
    key = keys.revoke(reference, who=_who())
    if json:
        emit(_facts(key, now))
        return
    typer.echo(f"{key.name} ({key.id}) is revoked.")


def _keys() -> "tuple[Keys, float]":
    """The keys of the home, which is made where there is none, and the time."""
    from timonel.stores.database import Database
    from timonel.stores.keys import Keys

    database = Database.open(settings().database_url)
    return Keys(database), database.clock()


def _who() -> str:
    import getpass

    return getpass.getuser()


def _seconds(span: str, option: str) -> float:
    from timonel.errors import BadRequest

    found = _SPAN.fullmatch(span)
    if found is None:
        raise BadRequest(f"Expected a time such as 30d, 12h, 90m or 0 for {option}, got {span!r}.")
    return float(int(found[1]) * _UNITS[found[2]])


def _show(key: "Key", token: str, *, as_json: bool) -> None:
    if as_json:
        emit(_facts(key, key.created) | {"key": token})
        return
    # The key alone is on standard output, so that a script can keep it without cutting it out.
    typer.echo(f"The key of {key.name} ({key.id}); it is shown this once:", err=True)
    typer.echo(token)


def _facts(key: "Key", now: float) -> dict[str, Any]:
    hidden = {"digest", "former"}
    facts = {name: value for name, value in vars(key).items() if name not in hidden}
    return {"state": _state(key, now), **facts}


def _state(key: "Key", now: float) -> str:
    if key.revoked is not None:
        return "revoked"
    return "valid" if key.is_valid(now) else "expired"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
