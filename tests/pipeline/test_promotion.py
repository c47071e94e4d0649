"""Who serves is changed only to what fits and can answer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.homes import deploy, home_at, store_version
from timonel.errors import ArtifactError, BadRequest, NotFound, PromotionRefused
from timonel.pipeline.promotion import promote, roll_back, wait_served
from timonel.project import load_project
from timonel.serving.roster import Report, Roster, owning, write_roster
from timonel.settings import Settings
from timonel.signature import Signature
from timonel.stores.artifacts import save_version
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.objects import ObjectStore
from timonel.stores.versions import Version, Versions

NAMES = ("penguins", "rf")
WHY: Any = {"who": "ana", "reason": "a test"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home where penguins/rf@2 serves, and @1 did."""
    settings = home_at(tmp_path)
    for number in (1, 2):
        deploy(load_project("penguins"), settings, number=number, seed=number)
    return settings


@pytest.fixture
def versions(settings: Settings) -> Versions:
    return Versions(Database.open(settings.database_url))


def another(settings: Settings, number: int = 3, content: bytes | None = None) -> Version:
    """A challenger: the files of @1 anew, or another graph."""
    made = settings.root / "made" / "penguins-rf-1"
    signature = Signature.from_json((made / "signature.json").read_bytes())
    return store_version(
        load_project("penguins"),
        settings,
        "rf",
        content or (made / "model.onnx").read_bytes(),
        signature.classes,
        signature.binding,
        number=number,
        champion=False,
    )


def with_signature(
    settings: Settings, change: Callable[[Signature], Signature], number: int = 3
) -> Version:
    """A challenger whose signature was changed."""
    folder = settings.root / "made" / "penguins-rf-1"
    signature = change(Signature.from_json((folder / "signature.json").read_bytes()))
    (folder / "signature.json").write_bytes(signature.to_json())
    versions = Versions(Database.open(settings.database_url))
    digest = save_version(folder, ObjectStore.open(settings.objects_url))
    versions.add(*NAMES, number, digest=digest, **WHY)
    return versions.move(*NAMES, number, "challenger", **WHY)


def test_a_challenger_becomes_champion_and_the_log_says_why(settings: Settings) -> None:
    another(settings)
    change = promote(settings, *NAMES, 3, evidence={"ticket": 7}, **WHY)
    assert (change.version.label, change.version.state) == ("penguins/rf@3", "champion")
    assert change.before is not None
    assert change.before.label == "penguins/rf@2"
    assert change.notes == ()
    event = Events(Database.open(settings.database_url)).list()[0]
    assert (event.who, event.before, event.after) == ("ana", "challenger", "champion")
    assert event.evidence == {
        "ticket": 7,
        "reason": "a test",
        "objections": [],
        "forced": False,
        "former": "penguins/rf@2",
    }
    assert wait_served(settings, change.version) is None  # there is no server


def test_a_retired_version_can_be_promoted_again(settings: Settings, versions: Versions) -> None:
    promote(settings, *NAMES, 1, **WHY)
    assert [v.state for v in versions.list()] == ["champion", "retired"]


def test_what_clients_would_notice_is_refused_unless_forced(
    settings: Settings, versions: Versions
) -> None:
    with_signature(settings, lambda s: replace(s, classes=(0, 1, 3)))
    with pytest.raises(PromotionRefused, match="Classes 3 were added: clients do not know") as no:
        promote(settings, *NAMES, 3, **WHY)
    assert "--force" in str(no.value)
    assert versions.get(*NAMES, 3).state == "challenger"
    change = promote(settings, *NAMES, 3, force=True, **WHY)
    assert change.notes[0].startswith("Classes 3 were added")
    assert Events(Database.open(settings.database_url)).list()[0].evidence["forced"] is True
    back = roll_back(settings, *NAMES, **WHY)  # what it takes away is noted, and no obstacle
    assert back.version.label == "penguins/rf@2"


def test_a_candidate_that_no_gate_has_judged_needs_force(
    settings: Settings, versions: Versions
) -> None:
    versions.add(*NAMES, 3, digest=versions.get(*NAMES, 1).digest, **WHY)
    with pytest.raises(PromotionRefused, match="No gate has judged it"):
        promote(settings, *NAMES, 3, **WHY)
    promote(settings, *NAMES, 3, force=True, **WHY)
    assert versions.get(*NAMES, 3).state == "champion"


def test_a_version_that_cannot_run_or_was_changed_is_never_champion(
    settings: Settings, versions: Versions
) -> None:
    another(settings, 3, b"no graph")
    with pytest.raises(ArtifactError, match="Expected an ONNX model"):
        promote(settings, *NAMES, 3, **WHY)
    changed = another(settings, 4, b"another")
    (settings.root / "objects" / "versions" / f"{changed.digest}.json").write_text("{}")
    with pytest.raises(ArtifactError):
        promote(settings, *NAMES, 4, force=True, **WHY)
    assert [v.state for v in versions.list()] == ["retired", "champion", "challenger", "challenger"]


def test_ends_champions_and_what_does_not_exist_are_said(settings: Settings) -> None:
    with pytest.raises(BadRequest, match="penguins/rf@2, which is champion"):
        promote(settings, *NAMES, 2, **WHY)
    with pytest.raises(NotFound, match="penguins/rf@9"):
        promote(settings, *NAMES, 9, **WHY)
    with pytest.raises(NotFound, match="digits/cnn has no champion to roll back"):
        roll_back(settings, "digits", "cnn", **WHY)
    roll_back(settings, *NAMES, **WHY)
    with pytest.raises(BadRequest, match="penguins/rf@2, which is rolled_back"):
        promote(settings, *NAMES, 2, **WHY)
    with pytest.raises(BadRequest, match="penguins/rf@2, which is rolled_back"):
        roll_back(settings, *NAMES, to=2, **WHY)
    with pytest.raises(NotFound, match="There is nothing to roll penguins/rf@1 back to"):
        roll_back(settings, *NAMES, **WHY)


def test_a_rollback_goes_to_the_one_before_or_to_the_one_named(
    settings: Settings, versions: Versions
) -> None:
    another(settings)
    promote(settings, *NAMES, 3, **WHY)
    change = roll_back(settings, *NAMES, to=1, evidence={"errors": 12}, **WHY)
    assert change.before is not None
    assert (change.before.label, change.before.state) == ("penguins/rf@3", "rolled_back")
    assert [v.state for v in versions.list()] == ["champion", "retired", "rolled_back"]
    assert Events(Database.open(settings.database_url)).list()[0].evidence["errors"] == 12
    assert roll_back(settings, *NAMES, **WHY).version.label == "penguins/rf@2"


class Workers:
    """What a supervisor would write of two workers that load what `loads` says."""

    def __init__(self, settings: Settings, loads: Callable[[str, int], str | None]) -> None:
        self._settings = settings
        self._loads = loads
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        with owning(self._settings.serving_folder):
            self._step()
            self._thread.start()
            try:
                yield
            finally:
                self._stop.set()
                self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self._step()

    def _step(self) -> None:
        found = Versions(Database.open(self._settings.database_url)).list()
        serves = tuple(v.label for v in found if v.state == "champion")
        workers = []
        for number in range(2):
            loaded, failed = list(serves), {}
            for version in found:
                if version.state == "challenger":
                    said = self._loads(version.label, number)
                    if said == "":
                        loaded.append(version.label)
                    elif said:
                        failed[version.label] = said
            workers.append(Report(number, 1, True, serves, tuple(loaded), failed))
        roster = Roster(1, "http://there", models=("penguins/rf",), workers=tuple(workers))
        write_roster(self._settings.serving_folder, roster)


def test_workers_load_a_version_before_it_is_champion(settings: Settings) -> None:
    with Workers(settings, lambda label, number: "").running():
        change = promote(settings, *NAMES, 1, **WHY)  # retired: it becomes challenger first
        assert wait_served(settings, change.version) == 2
    after = [e.after for e in Events(Database.open(settings.database_url)).list("penguins/rf@1")]
    assert after[:2] == ["champion", "challenger"]


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        (lambda label, number: "It is bad." if number else "", "was not promoted: It is bad."),
        (
            lambda label, number: None if number else "",
            "not every worker had loaded it after 0.2 s",
        ),
    ],
    ids=["one worker cannot load it", "one worker takes too long"],
)
def test_what_a_worker_does_not_load_is_not_promoted_and_goes_back(
    says: Any, sentence: str, settings: Settings, versions: Versions
) -> None:
    with Workers(settings, says).running():
        with pytest.raises(PromotionRefused, match=sentence):
            promote(settings, *NAMES, 1, patience=0.2, **WHY)
        with pytest.raises(PromotionRefused, match=r"not every worker serves it after 0\.1 s"):
            wait_served(settings, versions.get(*NAMES, 1), 0.1)
    assert [v.state for v in versions.list()] == ["retired", "champion"]


def test_a_server_of_other_models_is_not_asked(settings: Settings) -> None:
    with owning(settings.serving_folder):
        write_roster(settings.serving_folder, Roster(1, "http://there", models=("digits/cnn",)))
        change = promote(settings, *NAMES, 1, **WHY)
        assert wait_served(settings, change.version) is None


def test_a_former_champion_whose_files_are_lost_stands_in_the_way_unless_forced(
    settings: Settings, versions: Versions
) -> None:
    lost = versions.get(*NAMES, 2)
    (settings.root / "objects" / "versions" / f"{lost.digest}.json").unlink()
    with pytest.raises(PromotionRefused, match="could not be compared with penguins/rf@2"):
        promote(settings, *NAMES, 1, **WHY)
    assert promote(settings, *NAMES, 1, force=True, **WHY).version.number == 1
