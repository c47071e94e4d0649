from collections import Counter
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.stores.conftest import Clock
from tests.stores.processes import together
from timonel.errors import BadRequest, Busy, NotFound, StoreError
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.versions import ARROWS, State, Version, Versions

_STATES: list[State] = list(ARROWS)


def _add(versions: Versions, number: int = 1, model: str = "cnn") -> Version:
    return versions.add("digits", model, number, digest="d" * 64, who="ana", reason="trained")


def _crown(versions: Versions, number: int, model: str = "cnn") -> None:
    _add(versions, number, model)
    for state in ("challenger", "champion"):
        versions.move("digits", model, number, state, who="ana", reason="better")


def test_a_new_version_is_a_candidate_with_an_event(database: Database, clock: Clock) -> None:
    versions = Versions(database)
    added = versions.add(
        "digits", "cnn", 1, digest="d" * 64, who="ana", reason="r", run_id="7", metrics={"a": 0.5}
    )
    assert added == versions.get("digits", "cnn", 1)
    assert added.label == "digits/cnn@1"
    assert (added.state, added.created, added.metrics) == ("candidate", clock.now, {"a": 0.5})
    (event,) = Events(database).list("digits/cnn@1")
    assert (event.who, event.before, event.after) == ("ana", None, "candidate")
    assert event.evidence == {"reason": "r", "digest": "d" * 64, "run_id": "7"}
    assert database.generation() == 0


def test_a_number_is_given_once(database: Database) -> None:
    versions = Versions(database)
    _add(versions)
    with pytest.raises(BadRequest, match="Expected a new version, got digits/cnn@1"):
        _add(versions)
    assert len(Events(database).list()) == 1


def test_a_new_champion_retires_the_former_in_one_event_and_one_generation(
    database: Database,
) -> None:
    versions = Versions(database)
    _crown(versions, 1)
    _add(versions, 2)
    versions.move("digits", "cnn", 2, "challenger", who="gate", reason="not worse")
    before, events = database.generation(), len(Events(database).list())
    moved = versions.move(
        "digits", "cnn", 2, "champion", who="ana", reason="better", evidence={"gain": 0.01}
    )
    assert moved.reason == "better"
    assert versions.champion("digits", "cnn") == moved
    former = versions.get("digits", "cnn", 1)
    assert (former.state, former.reason) == ("retired", "digits/cnn@2 took its place")
    assert database.generation() == before + 1
    assert len(Events(database).list()) == events + 1
    assert Events(database).list()[0].evidence == {
        "gain": 0.01,
        "reason": "better",
        "former": "digits/cnn@1",
    }


def test_a_rollback_is_one_change_with_an_event_for_each_version(database: Database) -> None:
    versions = Versions(database)
    _crown(versions, 1)
    _crown(versions, 2)
    former = versions.former("digits", "cnn")
    assert former is not None
    assert former.label == "digits/cnn@1"
    before = database.generation()
    bad, good = versions.roll_back(
        "digits", "cnn", 2, 1, who="ana", reason="slow", evidence={"p99": 0.2}
    )
    assert (bad.state, good.state, bad.reason) == ("rolled_back", "champion", "slow")
    assert versions.champion("digits", "cnn") == good
    assert database.generation() == before + 1
    newest, second, *_ = Events(database).list()
    assert (newest.subject, newest.before, newest.after) == ("digits/cnn@1", "retired", "champion")
    assert newest.evidence == {"p99": 0.2, "reason": "slow", "former": "digits/cnn@2"}
    assert (second.subject, second.before, second.after, second.evidence["successor"]) == (
        "digits/cnn@2",
        "champion",
        "rolled_back",
        "digits/cnn@1",
    )
    assert versions.former("digits", "cnn") is None


def test_a_rollback_or_promotion_decided_on_another_champion_changes_nothing(
    database: Database,
) -> None:
    versions = Versions(database)
    _crown(versions, 1)
    _crown(versions, 2)
    events = len(Events(database).list())
    with pytest.raises(Busy, match="Expected @1 to be champion of digits/cnn, got @2"):
        versions.roll_back("digits", "cnn", 1, 2, who="ana", reason="late")
    with pytest.raises(Busy, match="got none"):
        versions.roll_back("digits", "clf", 1, 2, who="ana", reason="late")
    with pytest.raises(Busy, match="Expected no champion of digits/cnn, got @2"):
        versions.move("digits", "cnn", 1, "champion", who="ana", reason="late", over=None)
    with pytest.raises(BadRequest, match="digits/cnn@2, which is champion"):
        versions.roll_back("digits", "cnn", 2, 2, who="ana", reason="itself")
    with pytest.raises(NotFound, match="digits/cnn@7"):
        versions.roll_back("digits", "cnn", 2, 7, who="ana", reason="unknown")
    assert len(Events(database).list()) == events
    versions.move("digits", "cnn", 1, "champion", who="ana", reason="in time", over=2)


def test_beside_the_champions_are_the_one_before_and_the_newest_challenger(
    database: Database,
) -> None:
    versions = Versions(database)
    for number in (1, 2, 3):
        _crown(versions, number)
    _crown(versions, 1, "clf")
    versions.move("digits", "cnn", 1, "champion", who="ana", reason="again")
    for number in (4, 5, 6):
        _add(versions, number)
        versions.move("digits", "cnn", number, "challenger", who="ana", reason="r")
    versions.move("digits", "cnn", 6, "retired", who="ana", reason="never served")
    # Champions were 1, 2, 3 and 1 again: 3 is the one before, whatever its number.
    assert [version.label for version in versions.beside()] == ["digits/cnn@5", "digits/cnn@3"]
    versions.roll_back("digits", "cnn", 1, 3, who="ana", reason="r")
    assert [version.label for version in versions.beside()] == ["digits/cnn@5", "digits/cnn@2"]


def test_a_retired_version_can_come_back(database: Database) -> None:
    versions = Versions(database)
    _crown(versions, 1)
    _crown(versions, 2)
    versions.move("digits", "cnn", 1, "champion", who="ana", reason="2 is slow")
    assert [v.state for v in versions.list()] == ["champion", "retired"]


def test_a_champion_that_leaves_raises_the_generation(database: Database) -> None:
    versions = Versions(database)
    _crown(versions, 1)
    before = database.generation()
    versions.move("digits", "cnn", 1, "rolled_back", who="ana", reason="wrong")
    assert versions.champion("digits", "cnn") is None
    assert database.generation() == before + 1


def test_a_wrong_arrow_says_what_was_expected_what_came_and_where(database: Database) -> None:
    versions = Versions(database)
    _crown(versions, 1)
    with pytest.raises(BadRequest) as caught:
        versions.move("digits", "cnn", 1, "candidate", who="ana", reason="r")
    assert caught.value.message == (
        "Expected a state that a champion version may move to (retired, rolled_back), "
        "got 'candidate' for digits/cnn@1."
    )


def test_an_unknown_version_is_not_found(database: Database) -> None:
    versions = Versions(database)
    with pytest.raises(NotFound, match="digits/cnn@9, which there is not"):
        versions.get("digits", "cnn", 9)
    with pytest.raises(NotFound):
        versions.move("digits", "cnn", 9, "refused", who="ana", reason="r")
    assert versions.champion("digits", "cnn") is None


def test_lists_are_by_project_model_and_number(database: Database) -> None:
    versions = Versions(database)
    for number in (10, 9):
        _add(versions, number)
    _crown(versions, 1, "clf")
    versions.add("penguins", "rf", 1, digest="e" * 64, who="ana", reason="r")
    labels = [v.label for v in versions.list()]
    assert labels == ["digits/clf@1", "digits/cnn@9", "digits/cnn@10", "penguins/rf@1"]
    assert [v.label for v in versions.list("digits", "clf")] == ["digits/clf@1"]
    assert [v.label for v in versions.list(model="rf")] == ["penguins/rf@1"]
    assert [v.label for v in versions.champions()] == ["digits/clf@1"]
    assert [v.label for v in versions.champions("penguins")] == []


def test_metrics_that_are_no_numbers_are_a_store_error(database: Database) -> None:
    with pytest.raises(StoreError, match="JSON"):
        Versions(database).add(
            "digits", "cnn", 1, digest="d", who="a", reason="r", metrics={"auc": float("nan")}
        )


def test_many_processes_make_champions_and_one_is_left(
    database: Database, database_url: str
) -> None:
    versions = Versions(database)
    for number in range(3):
        _add(versions, number)
        versions.move("digits", "cnn", number, "challenger", who="gate", reason="r")
    prepare = """
from timonel.stores.database import Database
from timonel.stores.versions import Versions
"""
    act = """
Versions(Database.open(sys.argv[2])).move(
    "digits", "cnn", int(sys.argv[1]), "champion", who="p", reason="r"
)
"""
    together(prepare, act, 3, database_url)
    states = Counter(v.state for v in versions.list())
    assert states == {"champion": 1, "retired": 2}
    assert database.generation() == 3


class _Machine(RuleBasedStateMachine):
    """Two models of one project against a dictionary of what must be."""

    database: Database
    projects = count()

    def __init__(self) -> None:
        super().__init__()
        self.project = f"p{next(self.projects)}"
        self.versions = Versions(self.database)
        self.states: dict[tuple[str, int], State] = {}
        self.events: list[tuple[str, State | None, State]] = []
        self.generation = self.database.generation()

    def _label(self, model: str, number: int) -> str:
        return f"{self.project}/{model}@{number}"

    @rule(model=st.sampled_from("ab"))
    def add(self, model: str) -> None:
        number = sum(1 for known, _ in self.states if known == model)
        self.versions.add(self.project, model, number, digest="d", who="w", reason="r")
        self.states[model, number] = "candidate"
        self.events.append((self._label(model, number), None, "candidate"))

    @rule(model=st.sampled_from("ab"), number=st.integers(0, 3), to=st.sampled_from(_STATES))
    def move(self, model: str, number: int, to: State) -> None:
        state = self.states.get((model, number))
        wrong = NotFound if state is None else None if to in ARROWS[state] else BadRequest
        if state is None or wrong is not None:
            with pytest.raises(wrong or NotFound, match=self._label(model, number)):
                self.versions.move(self.project, model, number, to, who="w", reason="r")
            return
        self.versions.move(self.project, model, number, to, who="w", reason="r")
        if to == "champion":
            for (known, other), held in self.states.items():
                if known == model and held == "champion":
                    self.states[known, other] = "retired"
        self.states[model, number] = to
        self.events.append((self._label(model, number), state, to))
        self.generation += "champion" in (state, to)

    @rule(model=st.sampled_from("ab"), to=st.integers(0, 3))
    def roll_back(self, model: str, to: int) -> None:
        champions = [n for (m, n), s in self.states.items() if (m, s) == (model, "champion")]
        if not champions or "champion" not in ARROWS[self.states.get((model, to), "refused")]:
            return
        before = self.states[model, to]
        self.versions.roll_back(self.project, model, champions[0], to, who="w", reason="r")
        self.states[model, champions[0]], self.states[model, to] = "rolled_back", "champion"
        self.events.append((self._label(model, champions[0]), "champion", "rolled_back"))
        self.events.append((self._label(model, to), before, "champion"))
        self.generation += 1

    @invariant()
    def what_is_stored_is_what_must_be(self) -> None:
        stored = {(v.model, v.number): v.state for v in self.versions.list(self.project)}
        assert stored == self.states
        champions = Counter(v.model for v in self.versions.champions(self.project))
        assert all(number == 1 for number in champions.values())

    @invariant()
    def every_arrow_has_one_event(self) -> None:
        listed = Events(self.database).list(self.project, limit=1_000)
        assert [(e.subject, e.before, e.after) for e in reversed(listed)] == self.events

    @invariant()
    def the_generation_rises_with_what_serves_and_with_nothing_else(self) -> None:
        assert self.database.generation() == self.generation


def test_no_walk_through_the_states_breaks_a_promise(database: Database) -> None:
    class Machine(_Machine):
        pass

    Machine.database = database
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
