"""The whole pipeline on a small project, with the real stores."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.pipeline.conftest import Home, flowers, regression
from timonel import artifact
from timonel.errors import DataRefused, NotFound, RunFailed
from timonel.pipeline.run import Outcome
from timonel.policies import Gate, Quality, Split
from timonel.project import Model
from timonel.signature import Signature
from timonel.stores.artifacts import fetch_version
from timonel.stores.events import Events
from timonel.stores.registry import Registry

Train = Callable[..., Outcome]


def unlucky(seed: int = 0) -> Any:
    """Knows nothing with seed 0."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0 if seed else 1e-9)


def test_a_first_run_ends_in_a_champion_that_serves_and_is_registered(
    home: Home, trained: Train
) -> None:
    outcome = trained(flowers())
    (version,) = outcome.versions
    assert (version.label, version.state) == ("flowers/lr@1", "champion")
    assert home.versions.champion("flowers", "lr") == version
    folder = home.settings.serving_folder / version.digest
    artifact.verify(folder, version.digest)
    assert sorted(path.name for path in folder.iterdir()) == sorted(artifact.FILES)
    registry = Registry.open(home.settings.registry_url)
    (registered,) = registry.versions("flowers_lr")
    assert registered.aliases == ("champion", "production")
    assert registered.stage == "Production"
    assert registered.tags["timonel.artifact"] == version.digest


@pytest.mark.filterwarnings("ignore:X has feature names")
def test_what_is_registered_loads_and_predicts_in_mlflow(
    home: Home, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(flowers())
    import mlflow
    import pandas as pd

    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.settings.registry_url)
    model = mlflow.pyfunc.load_model("models:/flowers_lr@champion")
    rows = pd.DataFrame({"petal_length": [1.4, 5.9], "petal_width": [0.2, 2.2]}, dtype="float32")
    assert list(model.predict(rows)) == [0, 2]


def test_every_trial_is_a_run_nested_in_that_of_the_pipeline(home: Home, trained: Train) -> None:
    outcome = trained(flowers())
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=home.settings.registry_url)
    (experiment,) = client.search_experiments(filter_string="name = 'flowers'")
    runs = client.search_runs([experiment.experiment_id])
    trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert {run.data.params["C"] for run in trials} == {"0.1", "1.0"}
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.data.tags["timonel.run"] for run in runs} == {outcome.run}
    assert all("accuracy" in run.data.metrics for run in trials)


def test_a_run_with_nothing_new_keeps_the_champion_and_says_so(home: Home, trained: Train) -> None:
    trained(flowers())
    outcome = trained(flowers())
    assert outcome.versions == ()
    assert "flowers/lr@1 stays champion" in outcome.sentence
    assert home.statuses() == {
        "ingest": "succeeded",
        "validate": "cached",
        "split": "cached",
        "train/lr": "cached",
    }


def test_a_fresh_run_on_the_same_rows_makes_a_version_that_is_not_worse(
    home: Home, trained: Train
) -> None:
    trained(flowers())
    (version,) = trained(flowers(), fresh=True).versions
    assert (version.label, version.state) == ("flowers/lr@2", "champion")
    states = {v.number: v.state for v in home.versions.list("flowers", "lr")}
    assert states == {1: "retired", 2: "champion"}
    registry = Registry.open(home.settings.registry_url)
    assert registry.aliases("flowers_lr") == {"champion": 2, "production": 2}


def test_a_worse_candidate_is_refused_and_the_champion_stays(home: Home, trained: Train) -> None:
    trained(flowers(gate=Gate()))
    worse = flowers(gate=Gate(), models=[Model("lr", unlucky, folds=2)])
    outcome = trained(worse)
    assert outcome.status == "refused"
    (version,) = outcome.versions
    assert version.state == "refused"
    champion = home.versions.champion("flowers", "lr")
    assert champion is not None
    assert champion.number == 1
    assert home.runs.get(outcome.run).status == "refused"


def test_a_refused_run_tries_again_with_another_seed_when_the_project_says_so(
    home: Home, trained: Train
) -> None:
    outcome = trained(
        flowers(gate=Gate(floor=0.8, retries=1), models=[Model("lr", unlucky, folds=2)])
    )
    assert outcome.status == "succeeded"
    assert any("Trying again with seed" in event.note for event in home.told)


def test_a_run_until_split_trains_nothing(home: Home) -> None:
    outcome = home.run(flowers(), until="split")
    assert set(home.statuses()) == {"ingest", "validate", "split"}
    assert outcome.versions == ()


def test_an_unknown_step_or_model_is_refused_before_a_run_begins(home: Home) -> None:
    with pytest.raises(NotFound, match="ingest, validate, split"):
        home.run(flowers(), until="deploy")
    with pytest.raises(NotFound, match="expected one of: lr"):
        home.run(flowers(), models=["rf"])
    assert not home.runs.list("flowers")


def test_rows_that_are_worse_than_allowed_stop_the_run_and_are_kept(
    home: Home, trained: Train
) -> None:
    spoiled = flowers(
        prepare=lambda frame: frame.with_columns(petal_length=-frame["petal_length"]),
        quality=Quality(max_refused=0.5),
    )
    with pytest.raises(DataRefused, match="petal_length"):
        trained(spoiled)
    (run,) = home.runs.list("flowers")
    assert run.status == "failed"


def test_a_split_without_rows_for_a_side_is_refused(trained: Train) -> None:
    with pytest.raises(DataRefused, match="none for test"):
        trained(flowers(split=Split(test=0.0)))


def test_a_run_that_failed_goes_on_where_it_ended(home: Home, trained: Train) -> None:
    def broken(C: float = 1.0) -> Any:  # noqa: N803 (scikit-learn's name)
        raise ValueError("no such solver")

    with pytest.raises(RunFailed, match="no such solver"):
        trained(flowers(models=[Model("lr", broken, folds=2)]))
    trained(flowers(models=[Model("lr", regression, folds=2)]))
    assert home.statuses()["validate"] == home.statuses()["split"] == "cached"


def test_each_change_of_a_version_is_one_event(home: Home, trained: Train) -> None:
    trained(flowers())
    changes = [(e.before, e.after) for e in Events(home.database).list("flowers/lr@1")]
    assert sorted(changes, key=str) == sorted(
        [(None, "candidate"), ("candidate", "challenger"), ("challenger", "champion")], key=str
    )


def test_the_signature_of_a_version_is_the_projects(home: Home, trained: Train) -> None:
    project = flowers()
    (version,) = trained(project).versions
    folder = fetch_version(version.digest, home.objects, home.settings.serving_folder)
    signature = Signature.from_json((folder / "signature.json").read_bytes())
    assert (signature.columns, signature.classes) == (project.columns, (0, 1, 2))


def test_the_card_tells_where_the_rows_came_from_and_why_it_passed(
    home: Home, trained: Train
) -> None:
    (version,) = trained(flowers()).versions
    card = (home.settings.serving_folder / version.digest / "card.md").read_text()
    assert "iris" in card
    assert "passed as the first version" in card
