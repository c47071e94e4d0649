"""Two dozen canaries over real HTTP, in one server, and each ends as its challenger deserves."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.homes import deploy, home_at
from tests.serving.processes import Server, serving
from timonel.project import Project, Read, load_project
from timonel.rollouts import Canary, Limits
from timonel.simulate import challengers
from timonel.simulate.challengers import Made
from timonel.simulate.session import Simulation, Summary, simulate
from timonel.simulate.traffic import Feedback, Flow

KINDS: tuple[Made, ...] = ("good", "good", "bad", "slow", "failing", "bad")
NAMES = ("north", "east", "south", "west")
PLAN = Canary(
    steps=(0.2, 0.5, 1.0),
    requests=100,
    seconds=3,
    longest=600,
    watch=0,
    limits=Limits(accuracy=0.02, errors=0.01, slower=10),
)


class Harbour:
    """One project's canaries, one after the other; what came of each."""

    def __init__(
        self, server: Server, project: Project, seed: int, stopping: threading.Event
    ) -> None:
        self._stopping = stopping
        self.ended: list[tuple[Made, Summary]] = []
        self.trouble: list[Exception] = []
        self._server = server
        self._project = project
        self._kinds = list(KINDS)
        random.Random(seed).shuffle(self._kinds)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            for seed, kind in enumerate(self._kinds):
                self.ended.append((kind, self._one(kind, seed)))
        except Exception as error:  # noqa: BLE001 (told by the test's thread)
            self.trouble.append(error)

    def _one(self, kind: Made, seed: int) -> Summary:
        settings = self._server.settings
        return simulate(
            Simulation(
                project=self._project,
                address=self._server.address,
                data=Read(None, settings.cache_folder, settings.database_url),
                home=settings,
                flow=Flow(rate=100, seconds=900, clients=2),
                feedback=Feedback(share=0.5, delay=1),
                challenger=kind,
                plan=PLAN,
                seed=seed,
            ),
            stopping=self._stopping,
        )


@pytest.mark.soak
def test_two_dozen_canaries_end_as_they_should(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    # One registry is not for several threads; that it numbers challengers is tested elsewhere.
    monkeypatch.setattr(challengers, "_number", lambda *given, above: above + 1)
    settings = home_at(tmp_path, journal_rotate_seconds=1)
    files = []
    for name in NAMES:
        file = tmp_path / f"{name}.py"
        file.write_text(
            "from dataclasses import replace\n\nfrom timonel.projects import penguins\n\n"
            f'project = replace(penguins.project, name="{name}")\n'
        )
        deploy(load_project(str(file)), settings)
        files.append(str(file))
    with serving(files, settings, workers=2) as server:
        stopping = threading.Event()
        harbours = [
            Harbour(server, load_project(file), n, stopping) for n, file in enumerate(files)
        ]
        for harbour in harbours:
            harbour.thread.start()
        try:
            for harbour in harbours:
                harbour.thread.join()
        finally:
            stopping.set()
    assert [harbour.trouble for harbour in harbours] == [[]] * len(NAMES)
    ended = [one for harbour in harbours for one in harbour.ended]
    assert len(ended) == len(KINDS) * len(NAMES) >= 20
    assert [summary.counts.failed for _, summary in ended if summary.counts.failures] == []
    for kind in dict.fromkeys(KINDS):
        found = [summary for made, summary in ended if made == kind]
        ends = [[end.stage for end in summary.ends] for summary in found]
        requests = median(summary.counts.requests for summary in found)
        labels = median(summary.counts.labels for summary in found)
        took = median(
            summary.ends[0].at - summary.stages()["rollout"] if summary.ends else float("nan")
            for summary in found
        )
        figures = f"{len(found)} ended after {requests:g} requests, {labels:g} labels, {took:.1f} s"
        record_property(f"{kind}, median", figures)
        assert ends == [["promoted" if kind == "good" else "rolled back"]] * len(found)
