"""Definitions: loaded whole, or refused with the file, the field, what was expected and got."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from timonel.data.sources import Python
from timonel.errors import DefinitionError, NotFound
from timonel.policies import Drift, Grid
from timonel.project import BUNDLED, File, Model, Pretrained, Project, load_project


class Features(BaseModel):
    age: float


def recipe(depth: int = 3) -> Any:
    raise NotImplementedError


def project(**changes: Any) -> Project:
    given: dict[str, Any] = {
        "name": "people",
        "source": Python(dict),
        "features": Features,
        "target": "alive",
        "models": [Model("rf", recipe), Model("lr", recipe, aliases=("lr.pickle",))],
    }
    return Project(**(given | changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Bad Name"}, "expected a name of lower-case letters"),
        ({"name": "../etc"}, "expected a name of lower-case letters"),
        ({"name": "api"}, "are taken by the API"),
        ({"features": dict}, "features: expected a subclass of pydantic.BaseModel, got"),
        ({"source": "rows.csv"}, "source: expected a source such as Csv"),
        ({"target": "age"}, "'age' is also a feature"),
        ({"drift": Drift(exclude=("height",))}, "drift: expected columns among .*, got 'height'"),
        ({"models": []}, "models: expected a list of Model"),
        ({"models": [Model("rf", recipe), Model("rf", recipe)]}, "with different names"),
        ({"models": ["rf"]}, "models: expected a list of Model"),
        ({"default": "svm"}, "default: expected one of rf, lr, got 'svm'"),
    ],
)
def test_a_wrong_project_is_refused_with_the_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        project(**change)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Model("RF", recipe), "expected a name of lower-case letters"),
        (lambda: Model(name="rf", recipe="forest"), "expected recipe to be a function"),  # type: ignore[arg-type]
        (lambda: Model("rf", recipe, metric="r2"), "expected metric to be accuracy"),  # type: ignore[arg-type]
        (lambda: Model("rf", recipe, folds=1), "0 or at least 2 folds"),
        (lambda: Model("rf", recipe, search=Grid(width=[1])), "varies 'width', which its recipe"),
        (
            lambda: Model("rf", Pretrained(file=File("m.onnx")), search=Grid(width=[1])),
            "nothing to search",
        ),
    ],
)
def test_a_wrong_model_is_refused(make: Callable[[], Model], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        make()


def test_the_default_model_is_the_first_unless_another_is_named() -> None:
    assert project().model_names == ("rf", "lr")
    assert project(default="lr").model_names == ("lr", "rf")
    assert project().model().name == "rf"


def test_a_model_is_found_by_its_name_or_alias_and_an_unknown_one_names_the_others() -> None:
    assert project().model("lr.pickle").name == "lr"
    with pytest.raises(NotFound, match="expected one of: rf, lr"):
        project().model("zip")


def test_the_registered_name_is_the_projects_and_models_unless_one_is_given() -> None:
    assert project().registered("rf") == "people_rf"
    named = project(models=[Model("rf", recipe, registered="people_prod")])
    assert named.registered("rf") == "people_prod"


def test_classes_are_the_declared_ones_or_left_to_training() -> None:
    assert project().labels is None
    assert project(classes={0: "dead", 1: "alive"}).labels == (0, 1)


@pytest.mark.parametrize("name", BUNDLED)
def test_each_bundled_project_loads_under_its_name(name: str) -> None:
    assert load_project(name).name == name


def test_an_unknown_project_names_those_there_are() -> None:
    with pytest.raises(NotFound, match="penguins"):
        load_project("unicorns")
    with pytest.raises(NotFound, match="There is no file"):
        load_project("nowhere/unicorns.py")


def test_a_fault_in_a_definitions_file_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import timonel\n\nvalue = 1 / 0\n")
    with pytest.raises(DefinitionError, match=r"mine\.py, line 3: ZeroDivisionError"):
        load_project(str(path))
    path.write_text("def broken(:\n")
    with pytest.raises(DefinitionError, match=r"mine\.py, line 1: SyntaxError"):
        load_project(str(path))


def test_a_file_must_hold_exactly_one_project(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("value = 1\n")
    with pytest.raises(DefinitionError, match="exactly one Project at the top level, got none"):
        load_project(str(path))


def test_a_definitions_own_mistake_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from timonel import Gate\n\ngate = Gate(margin=7)\n")
    with pytest.raises(DefinitionError, match=r"mine\.py: Gate: expected margin between"):
        load_project(str(path))
