"""`timonel doctor`: is everything there that Timonel stands on, and what to do where it is not."""

from dataclasses import asdict

import typer

from timonel.cli.output import Json, emit, settings

__all__ = ["doctor"]


def doctor(json: Json = False) -> None:
    """Check the installation, the home, the stores, the data and the port.

    Each line says what was found and, where something is wrong, what to do. The exit code is 1
    when there is a problem; warnings leave it 0.

    Example: [bold]TIMONEL_HOME=/var/lib/timonel timonel doctor[/bold]
    """
    from timonel.doctor import examine

    findings = examine(settings())
    problems = [finding for finding in findings if finding.status == "problem"]
    if json:
        emit({"ok": not problems, "checks": [asdict(finding) for finding in findings]})
    else:
        colours = {
            "ok": typer.colors.GREEN,
            "warning": typer.colors.YELLOW,
            "problem": typer.colors.RED,
        }
        for finding in findings:
            typer.secho(f"{finding.status:8}", fg=colours[finding.status], bold=True, nl=False)
            typer.echo(f"{finding.name}: {finding.sentence}")
            if finding.remedy:
                typer.echo(f"{'':8}{finding.remedy}")
        if problems:
            names = ", ".join(finding.name for finding in problems)
            typer.echo(f"\nTo be mended: {names}.", err=True)
    if problems:
        raise typer.Exit(1)
