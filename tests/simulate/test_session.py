"""Canaries over real HTTP end as they deserve, and no request fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homes import deploy, home_at
from tests.serving.processes import Server, serving
from timonel.errors import Busy
from timonel.project import Read, load_project
from timonel.rollouts import Canary, Limits
from timonel.settings import Settings
from timonel.simulate import challengers
from timonel.simulate.challengers import Made
from timonel.simulate.session import Simulation, Summary, simulate
from timonel.simulate.timeline import Moment
from timonel.simulate.traffic import Feedback, Flow
from timonel.stores.database import Database
from timonel.stores.rollouts import Rollouts
from timonel.stores.versions import Versions

# A busy machine makes some answers slow that are not: here only its being wrong is looked for.
PLAN = Canary(
    steps=(0.5, 1.0),
    requests=60,
    seconds=1,
    longest=300,
    watch=0,
    limits=Limits(accuracy=0.05, errors=0.05, slower=50, alpha=0.05),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = home_at(tmp_path_factory.mktemp("simulated"), journal_rotate_seconds=0.3)
    deploy(load_project("penguins"), settings)
    return settings


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[Server]:
    with serving(["penguins"], settings, workers=1) as server:
        yield server


def run(
    server: Server, kind: Made | None, flow: Flow, *, home: bool = True
) -> tuple[Summary, list[Moment]]:
    told: list[Moment] = []
    settings = server.settings
    simulation = Simulation(
        project=load_project("penguins"),
        address=server.address,
        data=Read(None, settings.cache_folder, settings.database_url),
        home=settings if home else None,
        flow=flow,
        feedback=Feedback(share=1),
        challenger=kind,
        plan=PLAN,
    )
    return simulate(simulation, tell=told.append), told


def stages(told: list[Moment]) -> list[str]:
    """What became of the rollout; the rows are others than the champion was made from."""
    return [moment.stage for moment in told if moment.stage != "alarm"]


def test_a_good_canary_is_promoted_and_a_bad_one_rolled_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A registry takes half a minute to be made; that it numbers challengers is tested beside them.
    monkeypatch.setattr(challengers, "_number", lambda *given, above: above + 1)
    flow = Flow(rate=250, seconds=120)
    good, told = run(server, "good", flow)
    assert stages(told) == ["rollout", "promoted"]
    bad, told = run(server, "bad", flow)
    assert stages(told) == ["rollout", "rolled back"]
    assert "only the champion" in told[-1].sentence
    for summary, champion, challenger in ((good, 1, 2), (bad, 2, 3)):
        assert summary.counts.failures == 0
        assert summary.counts.labels > 0
        assert set(summary.counts.versions) == {
            f"penguins/rf@{number}" for number in (champion, challenger)
        }
    database = Database.open(server.settings.database_url)
    try:
        (champion_now,) = Versions(database).champions("penguins")
        assert champion_now.number == 2
        states = [standing.state for standing in Rollouts(database).list("penguins")]
        assert states == ["rolled_back", "promoted"]
    finally:
        database.close()


def test_without_the_home_there_is_traffic_and_no_challenger(server: Server) -> None:
    summary, told = run(server, None, Flow(rate=200, requests=40), home=False)
    assert (summary.counts.requests, summary.counts.failures) == (40, 0)
    assert told == []
    with pytest.raises(Busy, match="only a server's address"):
        run(server, "bad", Flow(rate=50, requests=100), home=False)


def test_no_version_is_made_where_another_is_on_its_way(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")
    for number in (1, 2):
        deploy(project, settings, number=number, champion=number == 1)
    database = Database.open(settings.database_url)
    told = {"who": "ana", "reason": "a test"}
    Rollouts(database).start("penguins", "rf", 2, PLAN, id="a", share=0.5, mirror=0, **told)
    simulation = Simulation(
        project=project,
        address="http://127.0.0.1:9",
        data=Read(None, settings.cache_folder, settings.database_url),
        home=settings,
        challenger="bad",
    )
    with pytest.raises(Busy, match=r"got that of penguins/rf@2 \(running\)"):
        simulate(simulation)
    assert len(Versions(database).list("penguins")) == 2
    database.close()
