"""A definition is checked before anything is trained, and what follows from it is shown."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from starlette.routing import Route

from tests.cli.conftest import Timonel
from timonel.project import load_project
from timonel.serving.worker import worker_app
from timonel.settings import Settings

DEFINITION = """\
from typing import Literal
from pydantic import BaseModel, Field
from timonel import Contract, Csv, File, Integer, Model, Optuna, Project

class Visit(BaseModel):
    age: int = Field(ge=0, examples=[30])
    code: int
    city: Literal["Ghent", "Lima"] | None = None

def forest(depth: int = 3, seed: int = 0):
    from sklearn.ensemble import RandomForestClassifier
    return RandomForestClassifier(max_depth=depth, random_state=seed)

project = Project(
    name="visits",
    source=Csv(File("visits.csv")),
    features=Visit,
    target="again",
    models=[
        Model("plain", forest, folds=0),
        Model("rf", forest, search=Optuna(trials=12, space={"depth": Integer(2, 9)}), repeats=2),
    ],
    default="rf",
    contract=Contract(rows="many", under="visits"),
)
"""


@pytest.fixture
def visits(home: Path) -> Path:
    """A definition with much to tell of, in the folder that commands run in."""
    path = home.parent / "here" / "visits.py"
    path.write_text(DEFINITION)
    return path


def test_what_is_derived_is_told_as_json(timonel: Timonel, visits: Path) -> None:
    ended = timonel("check", visits, "--json")
    found = ended.json()
    assert ended.code == 0
    assert found["columns"] == [
        {"name": "age", "kind": "integer", "allowed": "integer, ≥ 0"},
        {"name": "code", "kind": "integer", "allowed": "integer"},
        {"name": "city", "kind": "category", "allowed": "one of Ghent, Lima or missing"},
    ]
    rf, plain = found["models"]
    assert (rf["name"], rf["default"], rf["trials"]) == ("rf", True, 12)
    assert (rf["recipe"], rf["judged by"], rf["metric"]) == ("forest", "5 folds × 2", "accuracy")
    assert rf["registered"] == "visits_rf"
    assert (plain["default"], plain["trials"], plain["judged by"]) == (False, 1, "validation rows")
    routes = {route["route"]: route["answers"] for route in found["routes"]}
    assert routes["POST /visits/predict"] == "always"
    assert routes["POST /predict"] == "when served alone"
    assert routes["GET /health"] == "always"
    assert found["contract"]["under"] == "visits"
    assert found["policies"]["Gate"]["margin"] == 0.02
    assert found["classes"] is None


def test_the_routes_told_are_those_that_are_served(
    timonel: Timonel, visits: Path, home: Path
) -> None:
    told = {route["route"] for route in timonel("check", visits, "--json").json()["routes"]}
    project = load_project(str(visits))
    app = worker_app([project], Settings(home=home), at_root=True)
    served = {
        f"{method} {route.path_format}"
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD" and (route.path == "/" or not route.path.endswith("/"))
    }
    assert served - told == {"GET /"}
    assert told <= served


def test_whole_numbers_without_bounds_and_fields_without_examples_are_warned_of(
    timonel: Timonel, visits: Path
) -> None:
    warnings = timonel("check", visits, "--json").json()["warnings"]
    rounded = "any is accepted, though beyond 16,777,216 the model sees it rounded"
    undocumented = "no example, so /docs has no body that can be sent"
    assert [warning.partition(". Write")[0] for warning in warnings] == [
        f"Visit.age: a whole number without a largest value; {rounded}",
        f"Visit.code: a whole number without a least value or a largest value; {rounded}",
        f"Visit.code: {undocumented}",
        f"Visit.city: {undocumented}",
    ]
    assert timonel("check", visits).err.count("Warning: Visit.") == 4


def test_a_contracts_own_example_stands_for_all_fields(timonel: Timonel, visits: Path) -> None:
    visits.write_text(DEFINITION.replace('rows="many"', 'rows="many", example=[{"code": 1}]'))
    warnings = timonel("check", visits, "--json").json()["warnings"]
    assert [warning for warning in warnings if "no example" in warning] == []


def test_bundled_projects_are_well_defined(timonel: Timonel) -> None:
    ended = timonel("check", "penguins", "digits")
    assert (ended.code, ended.err) == (0, "")
    assert "penguins is well defined." in ended.out
    assert "digits is well defined." in ended.out
    for line in (
        "bill_length_mm\tnumber\tnumber, > 0, < 100",
        "rf (default)\tforest\t24\t5 folds × 5\taccuracy\tpenguins_rf",
        "cnn (default)\tpretrained model.onnx\t0\tnone: pretrained\taccuracy\tdigits_cnn",
        "POST /digits/predict\talways\tJSON or a picture",
        "gate\tfloor\t0.9",
    ):
        assert line in ended.out.splitlines()


@pytest.mark.parametrize(
    ("line", "wrong", "told"),
    [
        ("import sklearn.svm", "", "line 1: expected only light imports"),
        ("try:\n    from pandas import *\nexcept ImportError:\n    pass", "", "line 2: expected"),
        ("x = (", "", "line 1: expected Python, got:"),
        ("x = 1 / 0", "", "line 1: ZeroDivisionError"),
        ("", "age: int | str", "Visit.age: expected float, int, bool, str"),
        ("", "age: int = Field(le=99999999)", "Visit.age: expected whole numbers up to"),
    ],
)
def test_a_wrong_definition_is_refused_with_file_place_and_exit_code_2(
    timonel: Timonel, visits: Path, line: str, wrong: str, told: str
) -> None:
    definition = DEFINITION.replace("age: int = Field(ge=0, examples=[30])", wrong or "age: int")
    visits.write_text(f"{line}\n{definition}")
    ended = timonel("check", visits)
    assert ended.code == 2
    assert str(visits) in ended.err
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_a_heavy_import_by_way_of_another_module_is_refused(
    timonel: Timonel, visits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = visits.with_name("helper_of_visits.py")
    helper.write_text("import lightgbm\n")
    visits.with_name("lightgbm.py").touch()
    visits.write_text(f"import helper_of_visits\n{DEFINITION}")
    monkeypatch.syspath_prepend(str(visits.parent))
    for module in ("lightgbm", "helper_of_visits"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    ended = timonel("check", visits)
    assert ended.code == 2
    assert "got lightgbm by way of a module that it imports." in ended.err
    for module in ("lightgbm", "helper_of_visits"):
        sys.modules.pop(module, None)


def test_of_several_the_good_are_told_and_the_bad_decide_the_exit_code(
    timonel: Timonel, visits: Path
) -> None:
    ended = timonel("check", "absent.py", visits, "nothing")
    assert ended.code == 2
    assert "visits is well defined." in ended.out
    assert ended.err.count("Error: ") == 2
    ended = timonel("check", "absent.py", visits, "--json")
    first, second = ended.out.splitlines()
    assert (ended.code, '"kind": "NotFound"' in first, '"visits"' in second) == (2, True, True)


def test_one_wrong_definition_is_one_document_for_a_script(timonel: Timonel) -> None:
    ended = timonel("check", "nothing", "--json")
    assert (ended.code, ended.json()["kind"]) == (2, "NotFound")
    assert ended.json()["remedy"] == "Make one with: timonel new nothing"


def test_checking_loads_nothing_heavy() -> None:
    code = dedent("""
        import sys
        from timonel.cli.main import main
        sys.argv = ["timonel", "check", "penguins", "digits"]
        try:
            main()
        except SystemExit as end:
            assert not end.code
        from timonel.project import HEAVY
        print(sorted(HEAVY & set(sys.modules)))
    """)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"
