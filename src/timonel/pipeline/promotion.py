"""Which version serves, changed by hand or by a rule: load → warm → route, or not at all.

Where a server runs on the home, its workers load a version before the database says that it
serves. So one that cannot be loaded, or takes long, is never champion while another answers.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timonel.errors import BadRequest, NotFound, PromotionRefused, TimonelError
from timonel.serving.roster import Report, Roster, running
from timonel.settings import Settings
from timonel.signature import Signature, compatible
from timonel.stores.aliases import Aliases
from timonel.stores.artifacts import fetch_version
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.rollouts import Rollouts, Standing
from timonel.stores.versions import Version, Versions

__all__ = ["Change", "make_challenger", "promote", "roll_back", "wait_served"]

_POLL_SECONDS = 0.02
_PATIENCE = 60.0


@dataclass(frozen=True)
class Change:
    """A change of champion: who serves, who served, and what is worth knowing about it.

    `before` is None for the first champion. `seconds` is how long it took.
    """

    version: Version
    before: Version | None
    notes: tuple[str, ...]
    seconds: float


def promote(
    settings: Settings,
    project: str,
    model: str,
    number: int,
    *,
    who: str,
    reason: str,
    force: bool = False,
    evidence: Mapping[str, Any] | None = None,
    patience: float = _PATIENCE,
) -> Change:
    """Make a version champion, once every worker of a running server holds it ready.

    What clients of the champion would notice, or that no gate has judged it, is a reason to refuse;
    with `force` it is noted. Workers are waited for `patience` seconds.

    Raises:
        NotFound: there is no such version.
        BadRequest: it is champion already, or its state is an end.
        PromotionRefused: it does not fit, or is not loaded in time.
        ArtifactError: its files are not what they must be, or do not run.
        Busy: another version became champion meanwhile.
    """
    began = time.monotonic()
    with closing(Database.open(settings.database_url)) as database:
        versions, names = Versions(database), (project, model, number)
        version, champion = versions.get(*names), versions.champion(project, model)
        _refuse_ended(version)
        objects = ObjectStore.open(settings.objects_url)
        folder = fetch_version(version.digest, objects, settings.serving_folder)
        signature = _signature(folder)
        objections = _objections(version, champion, signature, objects, settings, force=force)
        _make_ready(versions, version, folder, signature, settings, who, patience)
        Aliases(database).settle(settings.registry_url, project, model, champion)
        before = {"former": champion.label} if champion else {}
        promoted = versions.move(
            *names,
            "champion",
            who=who,
            reason=reason,
            evidence={**(evidence or {}), "objections": objections, "forced": force, **before},
            over=champion.number if champion else None,
        )
    return Change(promoted, champion, tuple(objections), time.monotonic() - began)


def make_challenger(
    settings: Settings, project: str, model: str, number: int, *, who: str, force: bool = False
) -> tuple[str, ...]:
    """Let a version be rolled out; the objections that `force` passed over.

    Raises:
        NotFound: there is no such version.
        BadRequest: it is champion already, or its state is an end.
        PromotionRefused: clients of the champion would notice, or no gate has judged it.
        ArtifactError: its files are not what they must be, or do not run.
    """
    with closing(Database.open(settings.database_url)) as database:
        versions, names = Versions(database), (project, model, number)
        version, champion = versions.get(*names), versions.champion(project, model)
        _refuse_ended(version)
        objects = ObjectStore.open(settings.objects_url)
        folder = fetch_version(version.digest, objects, settings.serving_folder)
        signature = _signature(folder)
        objections = _objections(version, champion, signature, objects, settings, force=force)
        _try(folder, signature)
        if version.state != "challenger":
            versions.move(*names, "challenger", who=who, reason="it is to be rolled out")
    return tuple(objections)


def roll_back(
    settings: Settings,
    project: str,
    model: str,
    *,
    who: str,
    reason: str,
    to: int | None = None,
    evidence: Mapping[str, Any] | None = None,
    patience: float = _PATIENCE,
) -> Change:
    """Put the champion out of service for good, and the one before it, or `to`, in its place.

    During a rollout, or the watch after it, its challenger is put out of service instead: the
    champion of its start answers all again. The version before is kept ready by a running server,
    so this takes effect at once; another is loaded first. What clients would notice is noted, and
    does not stand in the way.

    Raises:
        NotFound: there is no champion, nothing to go back to, or no version `to`.
        BadRequest: `to` cannot become champion.
        PromotionRefused: `to` cannot be loaded.
        ArtifactError: its files are not what they must be.
        Busy: another version became champion meanwhile.
    """
    began = time.monotonic()
    with closing(Database.open(settings.database_url)) as database:
        versions = Versions(database)
        champion = versions.champion(project, model)
        if champion is None:
            raise NotFound(
                f"{project}/{model} has no champion to roll back.",
                remedy="See what there is with: timonel models list",
            )
        if to is None and (going := _rollout_of(database, project, model)):
            Rollouts(database).roll_back(going.id, who=who, reason=reason, evidence=evidence or {})
            former = versions.get(project, model, going.challenger)
            good = versions.get(project, model, going.champion)
            return Change(good, former, (), time.monotonic() - began)
        target = versions.former(project, model) if to is None else versions.get(project, model, to)
        if target is None:
            raise NotFound(
                f"There is nothing to roll {champion.label} back to: no other version of "
                f"{project}/{model} has served and is still good.",
                remedy=f"Promote another: timonel promote {project}/{model}@N",
            )
        if target.state not in ("retired", "challenger"):
            raise BadRequest(
                f"Expected a version that may become champion again, got {target.label}, which is "
                f"{target.state} ({target.reason}).",
                remedy="See those there are with: timonel models list",
            )
        objects = ObjectStore.open(settings.objects_url)
        folder = fetch_version(target.digest, objects, settings.serving_folder)
        signature = _signature(folder)
        notes = _differences(champion, signature, objects, settings)
        _make_ready(versions, target, folder, signature, settings, who, patience)
        Aliases(database).settle(settings.registry_url, project, model, champion)
        bad, good = versions.roll_back(
            project,
            model,
            champion.number,
            target.number,
            who=who,
            reason=reason,
            evidence={**(evidence or {}), "objections": notes},
        )
    return Change(good, bad, tuple(notes), time.monotonic() - began)


def _rollout_of(database: Database, project: str, model: str) -> Standing | None:
    return next((r for r in Rollouts(database).active(project) if r.model == model), None)


def wait_served(settings: Settings, version: Version, seconds: float = 30.0) -> int | None:
    """Wait until every worker that answers serves a version; their number, None without a server.

    Raises:
        PromotionRefused: they do not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while roster := _server_of(settings, version):
        workers = roster.ready()
        if workers and all(version.label in worker.serves for worker in workers):
            return len(workers)
        if time.monotonic() > deadline:
            raise PromotionRefused(
                f"{version.label} is champion, but not every worker serves it after {seconds:g} s. "
                f"{' '.join(roster.troubles())}".strip(),
                remedy="See /health of the server.",
            )
        time.sleep(_POLL_SECONDS)
    return None


def _refuse_ended(version: Version) -> None:
    if version.state in ("champion", "refused", "rolled_back"):
        raise BadRequest(
            f"Expected a version that may become champion, got {version.label}, which is "
            f"{version.state} ({version.reason}).",
            remedy="See those there are with: timonel models list",
        )


def _objections(
    version: Version,
    champion: Version | None,
    signature: Signature,
    objects: ObjectStore,
    settings: Settings,
    *,
    force: bool,
) -> list[str]:
    """What speaks against a version; raises PromotionRefused unless it is to be passed over."""
    objections = _differences(champion, signature, objects, settings)
    if version.state == "candidate":
        objections.append("No gate has judged it: it is a candidate.")
    if objections and not force:
        raise PromotionRefused(
            f"{version.label} was not promoted. {' '.join(objections)}",
            remedy="If that is meant, add --force.",
        )
    return objections


def _signature(folder: Path) -> Signature:
    return Signature.from_json((folder / "signature.json").read_bytes())


def _differences(
    champion: Version | None, signature: Signature, objects: ObjectStore, settings: Settings
) -> list[str]:
    """What clients of the champion would notice, a sentence each."""
    if champion is None:
        return []
    try:
        folder = fetch_version(champion.digest, objects, settings.serving_folder)
    except TimonelError as error:
        return [f"It could not be compared with {champion.label}: {error}"]
    return [d.sentence for d in compatible(_signature(folder), signature) if d.breaking]


def _server_of(settings: Settings, version: Version) -> Roster | None:
    """The server that runs on this home, if it serves the version's model."""
    roster = running(settings.serving_folder)
    if roster is None or f"{version.project}/{version.model}" not in roster.models:
        return None
    return roster


def _make_ready(
    versions: Versions,
    version: Version,
    folder: Path,
    signature: Signature,
    settings: Settings,
    who: str,
    patience: float,
) -> None:
    """Have every worker load a version, or this process where there is none.

    A challenger is what workers load beside the champion. One that does not become ready goes back
    to where it was.
    """
    names = (version.project, version.model, version.number)
    roster = _server_of(settings, version)
    if roster is None:
        _try(folder, signature)
        if version.state == "candidate":
            versions.move(*names, "challenger", who=who, reason="it is about to become champion")
        return
    if _all_hold(roster.ready(), version):
        return
    if version.state != "challenger":
        reason = "it is loaded, to become champion"
        versions.move(*names, "challenger", who=who, reason=reason)
    trouble = _wait_loaded(settings, version, patience)
    if trouble:
        if version.state != "challenger":
            versions.move(*names, "retired", who=who, reason=trouble)
        raise PromotionRefused(
            f"{version.label} was not promoted: {trouble}",
            remedy="What served goes on.",
        )


def _wait_loaded(settings: Settings, version: Version, patience: float) -> str | None:
    """Wait until all workers hold a version ready; otherwise, why they do not."""
    deadline = time.monotonic() + patience
    while roster := _server_of(settings, version):
        workers = roster.ready()
        for worker in workers:
            if version.label in worker.failed:
                return worker.failed[version.label]
        if workers and _all_hold(workers, version):
            return None
        if time.monotonic() > deadline:
            return f"not every worker had loaded it after {patience:g} s."
        time.sleep(_POLL_SECONDS)
    return "the server ended meanwhile."


def _all_hold(workers: list[Report], version: Version) -> bool:
    return bool(workers) and all(version.label in worker.loaded for worker in workers)


def _try(folder: Path, signature: Signature) -> None:
    """Raises ArtifactError when a version cannot be loaded, or cannot answer."""
    from timonel.runtime import OnnxModel
    from timonel.serving.routing import blank_rows

    model = OnnxModel((folder / "model.onnx").read_bytes(), signature)
    model.predict(blank_rows(signature.columns, 1))
