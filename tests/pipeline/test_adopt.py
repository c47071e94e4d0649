"""Versions that a person registers in MLflow by hand, with the real registry."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.pipeline.conftest import Home, flowers, iris
from timonel import artifact
from timonel.errors import NotFound
from timonel.pipeline.adopt import Adopted, adopt
from timonel.pipeline.run import Outcome
from timonel.stores.aliases import Aliases, Promotions, Wish
from timonel.stores.events import Events
from timonel.stores.marks import Marks, watch
from timonel.stores.versions import Version

Train = Callable[..., Outcome]

# What MLflow and its parts warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


class Person:
    """Somebody at MLflow's own page, or in a notebook."""

    def __init__(self, home: Home, train: Train) -> None:
        import mlflow

        self.url = home.settings.registry_url
        self.client = mlflow.MlflowClient(tracking_uri=self.url, registry_uri=self.url)
        self.train = train
        self.experiment = self.client.create_experiment(
            "by hand", artifact_location=(home.settings.root / "by-hand").as_uri()
        )

    def registers(self, estimator: Any, **options: Any) -> int:
        """Log a fitted estimator as notebooks do, and register that run's model; its number."""
        import mlflow

        return self._registers(mlflow.sklearn, estimator, **options)

    def registers_onnx(self, graph: Any) -> int:
        import mlflow

        return self._registers(mlflow.onnx, graph)

    def _registers(self, flavour: Any, model: Any, **options: Any) -> int:
        import mlflow

        mlflow.set_tracking_uri(self.url)
        try:
            with mlflow.start_run(experiment_id=self.experiment), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                logged = flavour.log_model(model, name="model", pip_requirements=[], **options)
            return int(mlflow.register_model(logged.model_uri, "flowers_lr").version)
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]

    def marks(self, number: int, alias: str = "champion") -> None:
        self.client.set_registered_model_alias("flowers_lr", alias, str(number))

    def stages(self, number: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.client.transition_model_version_stage("flowers_lr", str(number), "Production")

    def sees(self) -> Marks:
        return watch(self.url, ["flowers_lr"])["flowers_lr"]


@pytest.fixture
def person(home: Home, trained: Train) -> Person:
    return Person(home, trained)


def fitted(**changes: Any) -> Any:
    """A model of flowers that somebody made elsewhere."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    data = iris()
    X = np.column_stack([data["petal_length"], data["petal_width"]]).astype(np.float32)
    return LogisticRegression(**changes).fit(X, data["kind"])


def adopted(home: Home, **options: Any) -> Adopted:
    return adopt(flowers(), home.settings, model="lr", who="test", **options)


def wishes(home: Home) -> list[Wish]:
    return Promotions(home.database, home.settings.registry_url, [flowers()]).check()


def champion(home: Home) -> Version:
    found = home.versions.champion("flowers", "lr")
    assert found is not None
    return found


def test_a_version_with_the_alias_is_noticed_converted_checked_and_serves(
    home: Home, trained: Train, person: Person
) -> None:
    trained(flowers())
    assert wishes(home) == []
    person.marks(number := person.registers(fitted(C=0.5)))
    assert wishes(home) == [Wish("flowers", "lr", "adopt", number)]
    outcome = adopted(home)
    assert not outcome.refused
    version = champion(home)
    assert version == outcome.version
    assert version.number == number
    assert "answers all" in version.reason
    assert "The gate, for information" in version.reason
    folder = home.settings.serving_folder / version.digest
    artifact.verify(folder, version.digest)
    assert "adopted because" in (folder / "card.md").read_text()
    assert person.sees() == Marks(number, number, number)
    assert wishes(home) == []
    tags = person.client.get_model_version("flowers_lr", str(number)).tags
    assert tags["timonel.artifact"] == version.digest
    assert outcome.run is not None
    assert home.runs.get(outcome.run).status == "succeeded"


def test_the_stage_production_asks_as_well(home: Home, trained: Train, person: Person) -> None:
    trained(flowers())
    person.stages(number := person.registers(fitted()))
    assert wishes(home) == [Wish("flowers", "lr", "adopt", number)]
    adopted(home)
    assert champion(home).number == number
    assert person.sees() == Marks(number, number, number)


def test_without_any_run_the_first_version_by_hand_serves(home: Home, person: Person) -> None:
    person.marks(person.registers(fitted()))
    assert wishes(home) == [Wish("flowers", "lr", "adopt", 1)]
    adopted(home)
    assert champion(home).number == 1


def test_a_pickle_is_refused_with_the_risk_unless_a_person_says_so(
    home: Home, trained: Train, person: Person
) -> None:
    trained(flowers())
    number = person.registers(fitted(), serialization_format="cloudpickle")
    person.marks(number)
    outcome = adopted(home)
    assert outcome.refused
    refused = home.versions.get("flowers", "lr", number)
    assert refused.state == "refused"
    assert "runs whatever code it holds" in refused.reason
    assert champion(home).number == 1
    # MLflow tells the truth again, and why.
    assert person.sees() == Marks(1, 1, 1)
    tags = person.client.get_model_version("flowers_lr", str(number)).tags
    assert "--allow-pickle" in tags["timonel.refused"]
    assert wishes(home) == []
    again = person.registers(fitted(), serialization_format="cloudpickle")
    assert adopted(home, number=again, allow_pickle=True).refused is False
    assert champion(home).number == again


def test_a_model_of_other_columns_or_labels_is_refused(
    home: Home, trained: Train, person: Person
) -> None:
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    trained(flowers())
    data = iris()
    swapped = pd.DataFrame({name: data[name] for name in ("petal_width", "petal_length")})
    cases = {
        "in this order": LogisticRegression().fit(swapped, data["kind"]),
        "of 2 numbers a row": LogisticRegression().fit(np.ones((150, 3)), data["kind"]),
        "Classes 0x, 1x, 2x were added": LogisticRegression().fit(
            swapped.to_numpy(), np.array([f"{kind}x" for kind in data["kind"]])
        ),
    }
    for sentence, estimator in cases.items():
        outcome = adopted(home, number=person.registers(estimator))
        assert outcome.refused
        assert sentence in outcome.sentence
    assert champion(home).number == 1


def test_a_worse_model_is_a_persons_choice_and_the_gates_sentence_is_kept(
    home: Home, trained: Train, person: Person
) -> None:
    trained(flowers())
    adopted(home, number=person.registers(fitted(C=1e-9)))
    assert champion(home).number == 2
    assert "was refused" in champion(home).reason


def test_an_onnx_file_is_adopted(home: Home, trained: Train, person: Person) -> None:
    import numpy as np
    from skl2onnx import to_onnx

    trained(flowers())
    for options in ({"zipmap": False}, {}):
        graph = to_onnx(fitted(), np.zeros((1, 2), np.float32), options=options, target_opset=15)
        number = person.registers_onnx(graph)
        assert not adopted(home, number=number).refused
        assert champion(home).number == number


def test_going_back_to_a_retired_version_takes_no_conversion(
    home: Home, trained: Train, person: Person
) -> None:
    trained(flowers())
    trained(flowers(), fresh=True)
    assert champion(home).number == 2
    person.marks(1)
    assert wishes(home) == [Wish("flowers", "lr", "adopt", 1)]
    adopted(home)
    assert champion(home).number == 1
    assert person.sees() == Marks(1, 1, 1)


def test_a_refused_version_stays_refused_and_the_mark_goes_back(
    home: Home, trained: Train, person: Person
) -> None:
    trained(flowers())
    number = person.registers(fitted(), serialization_format="cloudpickle")
    adopted(home, number=number)
    person.marks(number)
    assert adopted(home).refused
    assert person.sees() == Marks(1, 1, 1)
    kinds = [event.kind for event in Events(home.database).list(f"flowers/lr@{number}")]
    assert kinds[0] == "promotion"


def test_if_both_changed_the_database_wins_with_an_event(
    home: Home, trained: Train, person: Person
) -> None:
    trained(flowers())
    trained(flowers(), fresh=True)
    number = person.registers(fitted())
    person.marks(number)
    why = {"who": "test", "reason": "back"}
    home.versions.move("flowers", "lr", 1, "champion", **why)  # type: ignore[arg-type]
    outcome = adopted(home)
    assert outcome.version is None
    assert champion(home).number == 1
    assert person.sees() == Marks(1, 1, 1)
    (event,) = [e for e in Events(home.database).list("flowers/lr") if e.evidence.get("asked")]
    assert event.evidence["asked"] == number
    assert "the database wins" in event.evidence["reason"]
    assert adopted(home).sentence == "MLflow and the database agree about flowers/lr."


def test_a_mark_that_was_removed_is_put_back(home: Home, trained: Train, person: Person) -> None:
    trained(flowers())
    person.client.delete_registered_model_alias("flowers_lr", "champion")
    assert wishes(home) == []  # its own process may be about to put it
    adopted(home)
    assert person.sees() == Marks(1, 1, 1)
    assert Aliases(home.database).mirrored() == {("flowers", "lr"): 1}


def test_a_number_that_mlflow_does_not_know_is_not_found(home: Home, person: Person) -> None:
    person.train(flowers())
    with pytest.raises(NotFound, match="has no version 9; it has: 1"):
        adopted(home, number=9)
