"""Versions are listed, shown and copied; a wrong reference is told what there is."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from timonel.schema import Column
from timonel.signature import Binding, Signature
from timonel.stores.artifacts import save_version
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.versions import State, Versions

EVALUATION = {
    "rows": 67,
    "metric": "accuracy",
    "confidence": 0.95,
    "seed": 0,
    "metrics": {
        "accuracy": {"value": 0.98507, "low": 0.9202, "high": 0.9974},
        "log_loss": {"value": 0.0612, "low": 0.03, "high": 0.1},
    },
    "classes": [
        {"label": "Adelie", "precision": 1.0, "recall": 0.97, "f1": 0.985, "support": 1_030},
        {"label": "Gentoo", "precision": 0.96, "recall": 1.0, "f1": 0.98, "support": 37},
    ],
    "confusion": [[29, 1], [0, 37]],
}
METRICS = {"metric": "accuracy", "evaluation": EVALUATION, "score": 0.9761, "spread": 0.0123}
SIGNATURE = Signature(
    project="penguins",
    model="rf",
    columns=(Column("mass", "number", gt=0), Column("island", "category", nullable=True)),
    target="species",
    classes=("Adelie", "Gentoo"),
    binding=Binding("columns", ("mass", "island")),
)
LIFE: tuple[tuple[int, tuple[State, ...]], ...] = (
    (1, ("challenger", "champion")),
    (2, ("refused",)),
    (3, ("challenger", "champion")),
    (4, ("challenger",)),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    """A home with penguins/rf@1 to 4 (3 serves), made once, and the digests of these."""
    home = tmp_path_factory.mktemp("made")
    objects = ObjectStore.open(home / "objects")
    database = Database.open(f"sqlite:///{home / 'timonel.db'}", clock=lambda: 1_795_179_845.0)
    versions = Versions(database)
    found = {}
    for number, states in LIFE:
        folder = home / f"version-{number}"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"graph of %d" % number)
        (folder / "signature.json").write_bytes(SIGNATURE.to_json())
        if number != 1:
            (folder / "metrics.json").write_text(json.dumps(METRICS))
            (folder / "card.md").write_text(f"# penguins/rf\n\nThe card of {number}.\n")
        found[number] = save_version(folder, objects)
        versions.add(
            "penguins", "rf", number,
            digest=found[number], who="test", reason="new", run_id=f"run-{number}",
            metrics=METRICS,
        )  # fmt: skip
        for state in states:
            versions.move("penguins", "rf", number, state, who="test", reason=f"{state} it is.")
    versions.add("digits", "clf", 1, digest="0" * 64, who="test", reason="new")
    versions.move("digits", "clf", 1, "refused", who="test", reason="below the floor.")
    database.close()
    return home, found


@pytest.fixture
def digests(home: Path, made: tuple[Path, dict[int, str]]) -> dict[int, str]:
    """The digests of penguins/rf@1 to 4 (3 serves), beside one refused version of digits/clf."""
    shutil.copytree(made[0], home)
    return made[1]


def test_a_home_without_versions_says_how_to_get_some(timonel: Timonel, home: Path) -> None:
    ended = timonel("models", "list")
    assert (ended.code, "timonel run" in ended.err) == (0, True)
    assert timonel("models", "list", "--json").json() == []
    assert not home.exists()


@pytest.mark.usefixtures("digests")
def test_the_list_has_every_version_and_marks_what_serves(timonel: Timonel) -> None:
    heading, *lines = [line.split("\t") for line in timonel("models", "list").out.splitlines()]
    rows = {line[0]: dict(zip(heading, line, strict=True)) for line in lines}
    assert [label for label, row in rows.items() if row["serves"]] == ["penguins/rf@3"]
    assert rows["penguins/rf@1"]["state"] == "retired"
    assert rows["penguins/rf@2"]["reason"] == "refused it is."
    assert rows["penguins/rf@3"]["metric"] == "accuracy 0.9851 (0.9202–0.9974)"
    assert rows["penguins/rf@3"]["created (UTC)"] == "2026-11-20 13:04:05"
    assert rows["digits/clf@1"]["metric"] == "–"


def test_the_list_as_json_has_the_facts_and_can_be_of_one_project(
    timonel: Timonel, digests: dict[int, str]
) -> None:
    found = timonel("models", "list", "penguins", "--json").json()
    assert [one["version"] for one in found] == [f"penguins/rf@{n}" for n in (1, 2, 3, 4)]
    assert [one["digest"] for one in found] == list(digests.values())
    assert [one["serves"] for one in found] == [False, False, True, False]
    assert found[0]["metrics"] == METRICS


@pytest.mark.usefixtures("digests")
def test_an_unknown_project_is_told_which_there_are(timonel: Timonel) -> None:
    ended = timonel("models", "list", "titanic")
    assert ended.code == 2
    assert "versions of: digits, penguins." in ended.err


def test_show_takes_the_champion_when_no_number_is_given(
    timonel: Timonel, digests: dict[int, str]
) -> None:
    shown = timonel("models", "show", "penguins/rf").out
    for expected in (
        "version\tpenguins/rf@3",
        "state\tchampion (serves)",
        "reason\tchampion it is.",
        "run\trun-3",
        f"digest\t{digests[3]}",
        "accuracy (decides)\t0.9851\t0.9202–0.9974",
        "accuracy, cross-validated\t0.9761\t± 0.0123 over folds",
        "Adelie\t1.0000\t0.9700\t0.9850\t1,030",
        "mass\tnumber\tnumber, > 0",
        "island\tcategory\ttext or missing",
        "answers species: Adelie, Gentoo",
        "The card of 3.",
    ):
        assert expected in shown


@pytest.mark.usefixtures("digests")
def test_a_card_is_a_page_on_a_terminal(timonel: Timonel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = timonel("models", "show", "penguins/rf").out
    assert "# penguins/rf" not in shown
    assert "The card of 3." in shown


@pytest.mark.usefixtures("digests")
def test_show_as_json_has_metrics_signature_and_card(timonel: Timonel) -> None:
    found = timonel("models", "show", "penguins/rf@2", "--json").json()
    assert (found["number"], found["state"], found["note"]) == (2, "refused", None)
    assert found["metrics"]["evaluation"] == EVALUATION
    assert found["signature"]["inputs"][0] == ["mass", "number", "number, > 0"]
    assert found["card"].endswith("The card of 2.\n")


@pytest.mark.usefixtures("digests")
def test_show_does_without_what_a_version_does_not_have(timonel: Timonel) -> None:
    shown = timonel("models", "show", "penguins/rf@1").out
    assert "Adelie\t1.0000" in shown  # the database has the metrics that the files lack
    assert "card" not in shown


def test_show_tells_what_the_database_knows_when_the_files_are_gone(
    timonel: Timonel, home: Path, digests: dict[int, str]
) -> None:
    shutil.rmtree(home / "objects")
    ended = timonel("models", "show", "penguins/rf")
    assert ended.code == 0
    assert "accuracy (decides)\t0.9851" in ended.out
    assert digests[3] in ended.err


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("penguins", "got 'penguins'; there are: digits/clf, penguins/rf."),
        ("penguins/rf@x", "got 'penguins/rf@x'"),
        ("penguins/rf@3@4", "got"),
        ("../../etc/passwd", "got '../../etc/passwd'"),
        ("", "got ''"),
        ("penguins/svm", "no version of penguins/svm; there are: digits/clf, penguins/rf."),
        ("digits/clf", "digits/clf has no champion; it has: @1 (refused)."),
        ("penguins/rf@9", "has no version 9; it has: @1 (retired), @2 (refused)"),
    ],
)
@pytest.mark.usefixtures("digests")
def test_a_wrong_reference_is_told_what_there_is(
    timonel: Timonel, reference: str, told: str
) -> None:
    for command in (("show",), ("export", "--out", "copy")):
        ended = timonel("models", *command, reference)
        assert (ended.code, told in ended.err) == (2, True)
    assert not Path("copy").exists()


def test_a_wrong_reference_is_a_document_for_a_script(timonel: Timonel) -> None:
    ended = timonel("models", "show", "penguins/rf", "--json")
    assert (ended.code, ended.json()["kind"]) == (2, "NotFound")
    assert ended.json()["remedy"] == "Train one with: timonel run penguins"


def test_export_copies_a_versions_files_and_says_where(
    timonel: Timonel, home: Path, digests: dict[int, str], tmp_path: Path
) -> None:
    ended = timonel("models", "export", "penguins/rf@4", "--out", tmp_path / "a" / "copy")
    assert ended.code == 0
    assert str(tmp_path / "a" / "copy") in ended.out
    assert digests[4] in ended.out
    copied = {path.name: path.read_bytes() for path in (tmp_path / "a" / "copy").iterdir()}
    original = {path.name: path.read_bytes() for path in (home / "version-4").iterdir()}
    assert copied == original


@pytest.mark.usefixtures("digests")
def test_export_into_a_folder_with_files_needs_force_and_leaves_no_mixture(
    timonel: Timonel, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    assert timonel("models", "export", "penguins/rf@3", "--out", out).code == 0
    (out / "mine.txt").write_text("mine")
    refused = timonel("models", "export", "penguins/rf@1", "--out", out)
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert (out / "model.onnx").read_bytes() == b"graph of 3"
    assert timonel("models", "export", "penguins/rf@1", "--out", out, "--force").code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "mine.txt", "model.onnx", "signature.json"
    ]  # fmt: skip


@pytest.mark.usefixtures("digests")
def test_export_refuses_a_file_and_a_place_that_cannot_be(timonel: Timonel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert timonel("models", "export", "penguins/rf", "--out", tmp_path / "file").code == 2
    under = timonel("models", "export", "penguins/rf", "--out", tmp_path / "file" / "copy")
    assert (under.code, "expected a folder to write to" in under.err) == (5, True)


def test_a_damaged_file_is_not_exported(
    timonel: Timonel, home: Path, digests: dict[int, str], tmp_path: Path
) -> None:
    for path in (home / "objects" / "sha256").rglob("*"):
        if path.is_file() and path.read_bytes() == b"graph of 3":
            path.write_bytes(b"graph of 0")
    ended = timonel("models", "export", f"penguins/rf@{max(digests) - 1}", "--out", tmp_path / "x")
    assert (ended.code, "Error: " in ended.err) == (5, True)
    assert not (tmp_path / "x").exists()
