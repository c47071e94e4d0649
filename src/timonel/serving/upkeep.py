"""What is kept up while workers answer: the versions on local disk, and the journal's export.

It runs in the supervisor, on threads of its own. Whatever it talks to may be down: it says so in
the state that workers read, and tries again.
"""

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import structs

from timonel.errors import ArtifactError, StoreError, TimonelError
from timonel.journal.segments import adopt, export
from timonel.project import Project
from timonel.rollouts import Canary
from timonel.serving.copies import Fingerprint, fingerprint, prune
from timonel.serving.state import Champion, Key, Progress, Shift, State, read_state, write_state
from timonel.settings import Settings
from timonel.stores.aliases import Promotions, Wish
from timonel.stores.artifacts import fetch_version, save_version
from timonel.stores.database import Database
from timonel.stores.keys import Keys
from timonel.stores.objects import ObjectStore
from timonel.stores.rollouts import Rollouts, Standing
from timonel.stores.runs import Run, Runs
from timonel.stores.segments import Segments
from timonel.stores.versions import EMBEDDED, Version, Versions
from timonel.stores.versions import State as VersionState

__all__ = ["Upkeep"]

_log = logging.getLogger(__name__)

_FOLLOW_SECONDS = 0.1
_FETCH_SECONDS = 1.0  # between two attempts at the same version
_PATIENCE = 0.1  # for the fetching of one version, before the others are told
_START_PATIENCE = 10.0
_EXPORT_SECONDS = 1.0
_WATCH_SECONDS = 1.0
_KEYS_SECONDS = 0.2
_PRUNE_SECONDS = 60.0
_UNUSED_SECONDS = 3600.0  # after which a copy that nothing mentions goes
_NEWEST_RUNS = 5  # of each project, for those who watch one


class Upkeep:
    """Mirrors what the database says into the home's `serving/`, and exports the journal.

    `act` is given each wish that people express in MLflow, and starts what fulfils it. `routed`
    tells which versions requests go to; `clock` gives seconds since 1970. What is told after
    `start` bears the name `boot`.
    """

    def __init__(
        self,
        settings: Settings,
        projects: Sequence[Project],
        act: Callable[[Wish], None] = lambda wish: None,
        *,
        routed: Callable[[], Collection[str]] = tuple,
        clock: Callable[[], float] = time.time,
        boot: str = "",
    ) -> None:
        self._settings = settings
        self._boot = boot
        self._projects = projects
        self._database: Database | None = None
        self._objects: ObjectStore | None = None
        self._state = read_state(settings.serving_folder) or State()
        self._opening = threading.Lock()
        self._telling = threading.Lock()
        self._known: dict[str, Fingerprint] = {}  # digest → its files when they were verified
        self._fetches: dict[Champion, tuple[threading.Thread, float]] = {}
        self._troubles: dict[Champion, str] = {}
        self._embedded_trouble: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._export_trouble: str | None = None
        self._act = act
        self._promotions: Promotions | None = None
        self._watch_trouble: str | None = None
        self._routed = routed
        self._clock = clock
        self._proven: dict[tuple[str, str], Champion] = {}  # what answered last, of each model
        self.swaps: Counter[tuple[str, str, str]] = Counter()
        """How often a model's champion changed, by project, model and "promote" or "rollback"."""

    def start(self) -> None:
        """Prepare what can serve at once, then keep following on threads."""
        self.follow(_START_PATIENCE)
        self.follow_keys()
        with self._telling:
            self._state = structs.replace(self._state, boot=self._boot)
            write_state(self._settings.serving_folder, self._state)
        for name, act, seconds in (
            ("follow", lambda: self.follow(_PATIENCE), _FOLLOW_SECONDS),
            ("keys", self.follow_keys, _KEYS_SECONDS),
            ("export", self.export_journal, _EXPORT_SECONDS),
            ("watch", self.watch_registry, _WATCH_SECONDS),
            ("prune", self.prune, _PRUNE_SECONDS),
        ):
            thread = threading.Thread(
                target=self._repeat, args=(act, seconds), name=f"timonel-{name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop the threads and export what the workers left."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
        self.export_journal()

    @property
    def state(self) -> State:
        """What workers were told last."""
        return self._state

    def _repeat(self, act: Callable[[], None], seconds: float) -> None:
        while not self._stop.wait(seconds):
            try:
                act()
            except Exception:  # noqa: BLE001 (nothing may end what is kept up)
                _log.exception("Upkeep failed; it is tried again")

    def _stores(self) -> tuple[Database, ObjectStore]:
        with self._opening:
            if self._database is None or self._objects is None:
                database = Database.open(self._settings.database_url)
                objects = ObjectStore.open(self._settings.objects_url)
                self._embedded_trouble = self._deploy_embedded(database, objects)
                self._database, self._objects = database, objects
            elif (file := _file_of(self._settings.database_url)) and not file.is_file():
                # Opened anew it would be empty, and what answers would be forgotten.
                self._database.close()
                raise StoreError(
                    f"Expected the database at {file}, got no such file.",
                    remedy="Put it back, or start anew for an empty one.",
                )
            return self._database, self._objects

    def _deploy_embedded(self, database: Database, objects: ObjectStore) -> list[str]:
        """Make the versions that ship with a project serve where there is no other yet."""
        versions = Versions(database)
        troubles = []
        for project in self._projects:
            for model in project.models:
                if model.embedded is None or versions.champion(project.name, model.name):
                    continue
                try:
                    _deploy(project, model.name, model.embedded, versions, objects)
                except ArtifactError as error:
                    troubles.append(f"{project.name}/{model.name} ships no usable version: {error}")
        return troubles

    def follow(self, wait: float | None = None) -> None:
        """Fetch the files of the champions, and of what stands by, then tell the workers.

        Each version is waited for at most `wait` seconds; meanwhile the former one is told.
        """
        degraded: list[str] = []
        state = self._state
        try:
            database, objects = self._stores()
            versions = Versions(database)
            former = {champion.key: champion for champion in state.champions}
            champions = [_champion_of(version) for version in versions.champions()]
            going = [r for r in Rollouts(database).active() if r.state != "watching"]
            challengers = {
                rollout.id: _champion_of(
                    versions.get(rollout.project, rollout.model, rollout.challenger)
                )
                for rollout in going
            }
            chosen = (*challengers.values(), *map(_champion_of, versions.beside()))
            beside = self._beside(champions, chosen)
            lacking = [c for c in (*champions, *beside) if not self._has_copy(c, objects, wait)]
            wanted = {*champions, *beside}
            self._fetches = {c: fetch for c, fetch in self._fetches.items() if c in wanted}
            self._troubles = {c: self._troubles[c] for c in lacking if c in self._troubles}
            told = [former.get(c.key, c) if c in lacking else c for c in champions]
            self._count(versions, former, told)
            state = State(
                champions=tuple(told),
                standby=tuple(c for c in beside if c not in (*lacking, *told)),
                shifts=tuple(_shift_of(r, challengers[r.id]) for r in going),
                runs=self._progress(database),
            )
            degraded += [*self._troubles.values(), *self._embedded_trouble]
        except (TimonelError, OSError) as error:
            degraded.append(f"The last known versions answer: {error}")
        degraded += [trouble for trouble in (self._export_trouble, self._watch_trouble) if trouble]
        state = structs.replace(state, degraded=tuple(degraded))
        self._tell(lambda told: structs.replace(state, keys=told.keys, boot=told.boot))

    def follow_keys(self) -> None:
        """Tell the workers which keys are valid, whatever holds up `follow`."""
        try:
            database, _ = self._stores()
            keys = tuple(
                Key(
                    id=key.id,
                    name=key.name,
                    digest=key.digest,
                    scopes=key.scopes,
                    projects=key.projects,
                    rate=key.rate,
                    expires=key.expires,
                    former=key.former,
                    former_until=key.former_until,
                )
                for key in Keys(database).valid()
            )
        except TimonelError:
            return  # the last known ones stay valid, and `follow` says what is wrong
        self._tell(lambda told: structs.replace(told, keys=keys))

    def _tell(self, change: Callable[[State], State]) -> None:
        with self._telling:
            state = change(self._state)
            if state != self._state:
                write_state(self._settings.serving_folder, state)
                self._state = state

    def _beside(
        self, champions: Sequence[Champion], chosen: Iterable[Champion]
    ) -> Sequence[Champion]:
        """What stands by: what was chosen to, and what answered last where a champion does not.

        A champion that cannot be loaded answers nowhere. A worker that starts then needs the
        version that the others still answer with.
        """
        routed = self._routed()
        for known in (*self._state.standby, *self._state.champions):
            if known.label in routed:
                self._proven[known.key] = known
        found = list(chosen)
        for key in (champion.key for champion in champions):
            if key in self._proven:
                found.append(self._proven[key])
            else:  # it is not known yet what these workers answer with
                found += [known for known in self._state.standby if known.key == key]
        return [champion for champion in dict.fromkeys(found) if champion not in champions]

    def _count(
        self,
        versions: Versions,
        former: Mapping[tuple[str, str], Champion],
        champions: Sequence[Champion],
    ) -> None:
        for champion in champions:
            before = former.get(champion.key)
            if before and before.number != champion.number:
                was = versions.get(*before.key, before.number).state
                kind = "rollback" if was == "rolled_back" else "promote"
                # Another thread reads it: replaced as a whole.
                self.swaps = self.swaps + Counter({(*champion.key, kind): 1})

    def _has_copy(self, champion: Champion, objects: ObjectStore, wait: float | None) -> bool:
        """Whether there is a verified copy.

        One whose files changed since is verified, and fetched, anew: on a thread, for one version
        must not hold up the others.
        """
        folder = self._settings.serving_folder / champion.digest

        def is_kept() -> bool:
            found = fingerprint(folder)
            return bool(found) and self._known.get(champion.digest) == found

        if is_kept():
            self._troubles.pop(champion, None)
            return True
        fetch, began = self._fetches.get(champion, (None, 0.0))
        if fetch is None or not fetch.is_alive():
            if wait is not None and time.monotonic() < began + _FETCH_SECONDS:
                return False
            fetch = threading.Thread(
                target=self._fetch, args=(champion, objects), name="timonel-fetch", daemon=True
            )
            self._fetches[champion] = fetch, time.monotonic()
            fetch.start()
        fetch.join(wait)
        return is_kept()

    def _fetch(self, champion: Champion, objects: ObjectStore) -> None:
        try:
            folder = fetch_version(champion.digest, objects, self._settings.serving_folder)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is said)
            self._troubles[champion] = f"{champion.label} cannot be fetched: {error}"
        else:
            self._known[champion.digest] = fingerprint(folder)

    def prune(self) -> None:
        """Delete the copies that nobody used for an hour, of versions that are not told."""
        state = self._state
        keep = {c.digest for c in (*state.champions, *state.standby)}
        before = self._clock() - _UNUSED_SECONDS
        for digest in prune(self._settings.serving_folder, keep, before):
            self._known.pop(digest, None)

    def _progress(self, database: Database) -> tuple[Progress, ...]:
        runs = Runs(database)
        return tuple(
            _progress_of(runs, run)
            for project in self._projects
            for run in runs.list(project.name, _NEWEST_RUNS)
        )

    def watch_registry(self) -> None:
        """Look in MLflow for versions that people ask for."""
        try:
            database, _ = self._stores()
            if self._promotions is None:
                url = self._settings.registry_url
                self._promotions = Promotions(database, url, self._projects)
            wishes = self._promotions.check()
        except (TimonelError, OSError) as error:
            self._watch_trouble = f"Changes made in MLflow are not seen: {error}"
            return
        self._watch_trouble = None
        for wish in wishes:
            self._act(wish)

    def export_journal(self) -> None:
        """Turn closed journal files, and those of dead workers, into segments."""
        trouble = None
        for path in adopt(self._settings.journal_folder):
            try:
                database, objects = self._stores()
                exported = export(path, objects, Segments(database), database)
            except (TimonelError, OSError) as error:  # one file must not hold up the others
                trouble = f"The journal waits to be exported: {error}"
                continue
            if exported and exported.note and exported.new:
                _log.warning("%s", exported.note)
        self._export_trouble = trouble


def _shift_of(rollout: Standing, challenger: Champion) -> Shift:
    sticky = rollout.plan.sticky if isinstance(rollout.plan, Canary) else None
    return Shift(rollout.id, challenger, rollout.share, rollout.mirror, sticky)


def _champion_of(version: Version) -> Champion:
    return Champion(version.project, version.model, version.number, version.digest)


def _progress_of(runs: Runs, run: Run) -> Progress:
    """How far a run is; one whose process was killed is not waited for."""
    if run.status == "running" and runs.is_over(run, socket.gethostname()):
        return Progress(run.project, run.id, "failed", "its process ended")
    return Progress(run.project, run.id, run.status, run.reason or _step_of(runs, run.id))


def _step_of(runs: Runs, run: str) -> str:
    """Where a run is, as a phrase."""
    at = next((step for step in reversed(runs.steps(run)) if step.status == "running"), None)
    share = f", {at.share:.0%}" if at and at.share is not None else ""
    return f"step {at.name}{share}" if at else "its start"


def _deploy(
    project: Project, model: str, folder: Path, versions: Versions, objects: ObjectStore
) -> None:
    names = (project.name, model, EMBEDDED)
    why = "ships with the project"
    known = [v.state for v in versions.list(project.name, model) if v.number == EMBEDDED]
    if not known:
        digest = save_version(folder, objects)
        versions.add(*names, digest=digest, who="package", reason=why)
        known = ["candidate"]
    # A start that was killed in between left it on the way.
    left: dict[str, tuple[VersionState, ...]] = {
        "candidate": ("challenger", "champion"),
        "challenger": ("champion",),
    }
    for state in left.get(known[0], ()):
        versions.move(*names, state, who="package", reason=why)


def _file_of(url: str) -> Path | None:
    """The file of an SQLite database; None of a server's."""
    _, found, path = url.partition("sqlite:///")
    return Path(path).expanduser().absolute() if found else None
