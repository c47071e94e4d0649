"""One simulation: traffic, what is tried with it, and what the system made of it."""

import getpass
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from timonel.control.plan import traffic as traffic_of
from timonel.errors import Busy
from timonel.ids import Ids
from timonel.project import Project, Read
from timonel.rollouts import AllAtOnce, Canary, Limits, Rollout
from timonel.settings import Settings
from timonel.simulate.cases import cases_of, held_out
from timonel.simulate.challengers import Made, add_challenger
from timonel.simulate.drifts import Kind, drifted
from timonel.simulate.timeline import ENDS, Moment, Timeline
from timonel.simulate.traffic import Counts, Feedback, Flow, Traffic
from timonel.stores.database import Database
from timonel.stores.rollouts import Rollouts

__all__ = ["CANARY", "Simulation", "Summary", "simulate"]

CANARY = Canary(
    steps=(0.1, 0.5, 1.0),
    requests=200,
    seconds=5,
    longest=900,
    watch=0,
    limits=Limits(slower=3),  # clients and server share the processors, and so their noise
)
"""How a challenger is rolled out where the project has no plan of its own."""

_POLL_SECONDS = 0.25
_AFTERWARDS = 2.0
"""seconds of traffic after a rollout's end, so that what serves then is seen to answer"""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What is simulated; `home` is None where the server's home is not at hand.

    `kind` and `strength` are of the drift, None for none. `challenger` is made of the champion of
    `model` and rolled out by `plan`, or by the project's. With `to_end` traffic ends soon after a
    rollout that began meanwhile has.
    """

    project: Project
    address: str
    data: Read
    home: Settings | None = None
    flow: Flow = field(default_factory=Flow)
    feedback: Feedback = field(default_factory=Feedback)
    kind: Kind | None = None
    strength: float = 1.0
    challenger: Made | None = None
    model: str | None = None
    plan: Rollout | None = None
    to_end: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Summary:
    """How it ended: what came of the requests, and all that happened."""

    counts: Counts
    moments: Sequence[Moment] = field(default_factory=tuple)

    @property
    def ends(self) -> Sequence[Moment]:
        """The ends of rollouts."""
        return [moment for moment in self.moments if moment.stage in ENDS]

    def stages(self) -> dict[str, float]:
        """When each stage was first reached, in seconds since the start."""
        found: dict[str, float] = {}
        for moment in self.moments:
            found.setdefault(moment.stage, moment.at)
        return found


def simulate(
    simulation: Simulation,
    *,
    tell: Callable[[Moment], None] = lambda moment: None,
    show: Callable[[Counts], None] = lambda counts: None,
    stopping: threading.Event | None = None,
) -> Summary:
    """Ask until it is over; `tell` hears what happens, `show` again and again how far it is.

    Raises:
        SourceError: the project's rows cannot be had.
        BadRequest: the address is not this machine's, or the rows cannot drift as asked.
        Busy: a challenger is asked for where another is on its way, or where no home is at hand.
    """
    stopping = stopping or threading.Event()
    project, seed = simulation.project, simulation.seed
    if simulation.challenger:
        _refuse_in_vain(simulation)
    held = held_out(project, simulation.data, seed=seed)
    moved = (
        drifted(held.frame, project, simulation.kind, seed=seed, strength=simulation.strength)
        if simulation.kind
        else None
    )
    traffic = Traffic(
        simulation.address,
        project.name,
        cases_of(project, held.frame),
        simulation.flow,
        drifted=() if moved is None else cases_of(project, moved),
        feedback=simulation.feedback,
        seed=seed,
    )
    watcher = _Watcher(simulation, traffic, tell)
    try:
        for note in held.notes:
            watcher.say("rows", note)
        traffic.start()
        if simulation.challenger and simulation.home:
            _begin_rollout(simulation, simulation.home, simulation.challenger)
        ended: float | None = None
        while not traffic.is_over and not stopping.wait(_POLL_SECONDS):
            if watcher.look() and simulation.to_end and ended is None:
                ended = time.monotonic()
            show(traffic.counts())
            if ended is not None and time.monotonic() - ended > _AFTERWARDS:
                break
    finally:
        traffic.stop()
        watcher.look()
        watcher.close()
    return Summary(traffic.counts(), watcher.moments)


class _Watcher:
    """Tells what happens: the drift that begins here, and what the home's events say."""

    def __init__(
        self, simulation: Simulation, traffic: Traffic, tell: Callable[[Moment], None]
    ) -> None:
        self.moments: list[Moment] = []
        self._simulation = simulation
        self._traffic = traffic
        self._tell = tell
        self._began = time.time()
        self._drifts = False
        home = simulation.home
        self._database = Database.open(home.database_url) if home else None
        self._timeline = (
            Timeline(self._database, simulation.project.name, began=self._began)
            if self._database
            else None
        )

    def look(self) -> bool:
        """Tell what is new; whether a rollout ended with it."""
        since = self._traffic.drifts_since
        if since is not None and not self._drifts:
            self._drifts = True
            self.say("drift", f"{self._simulation.kind}, strength {self._simulation.strength:g}")
        news = self._timeline.news() if self._timeline else ()
        for moment in news:
            self._note(moment)
        return any(moment.stage in ENDS for moment in news)

    def say(self, stage: str, sentence: str) -> None:
        """Tell something that no event says."""
        name = self._simulation.project.name
        self._note(Moment(time.time() - self._began, stage, name, sentence))

    def close(self) -> None:
        """Let go of the database."""
        if self._database:
            self._database.close()

    def _note(self, moment: Moment) -> None:
        self.moments.append(moment)
        self._tell(moment)


def _refuse_in_vain(simulation: Simulation) -> None:
    """Make no version that could not be rolled out."""
    project, home = simulation.project, simulation.home
    if home is None:
        raise Busy(
            "Expected a home to make a challenger in, got only a server's address.",
            remedy="Name the home that it serves with --home, or have a server made: --serve",
        )
    with closing(Database.open(home.database_url)) as database:
        for going in Rollouts(database).active(project.name):
            if going.model == (simulation.model or project.model_names[0]):
                raise Busy(
                    f"Expected no rollout of {project.name}/{going.model}, got that of "
                    f"{going.label} ({going.state}).",
                    remedy=f"Wait for it, or end it: timonel rollout abort "
                    f"{project.name}/{going.model}",
                )


def _begin_rollout(simulation: Simulation, home: Settings, kind: Made) -> None:
    """Roll a challenger out as `timonel rollout start` does, unless the project's plan does."""
    project = simulation.project
    model = simulation.model or project.model_names[0]
    made = add_challenger(home, project, model, kind)
    if simulation.plan is None and project.rollout != AllAtOnce():
        return  # the controller begins it
    plan = simulation.plan or CANARY
    first = traffic_of(plan, 0)
    with closing(Database.open(home.database_url)) as database:
        Rollouts(database).start(
            project.name,
            model,
            made.number,
            plan,
            id=str(Ids()()),
            share=first.share,
            mirror=first.mirror,
            who=getpass.getuser(),
            reason=made.reason,
        )
