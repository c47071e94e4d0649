"""Signatures: stored whole, and compared with a sentence for each difference."""

from dataclasses import replace

import pytest

from timonel.errors import ArtifactError
from timonel.schema import Column, Image
from timonel.signature import Binding, Signature, compatible

AGE = Column("age", "number", nullable=True, ge=0, lt=150)
SEX = Column("sex", "category", categories=("male", "female"))
OLD = Signature("titanic", "lr", (AGE, SEX), "survived", (0, 1), Binding("columns", ("age", "sex")))


def differences(**changes: object) -> list[tuple[str, bool]]:
    found = compatible(OLD, replace(OLD, **changes))  # type: ignore[arg-type]
    return [(difference.sentence, difference.breaking) for difference in found]


def field(column: Column) -> tuple[str, bool]:
    (found,) = differences(columns=(column, SEX))
    return found


def test_a_signature_comes_back_from_its_file_as_it_was() -> None:
    picture = Signature(
        "digits",
        "cnn",
        (Column("pixels", "image", image=Image(28, 28, low=-1, ink="dark")),),
        "label",
        ("zero", "one"),
        Binding("image", ("in",), (1, 28, 28), 0, 1, None, "out", logits=True, batch=False),
    )
    for signature in (OLD, picture):
        assert Signature.from_json(signature.to_json()) == signature


def test_what_is_no_signature_or_a_newer_one_is_refused() -> None:
    with pytest.raises(ArtifactError, match="Expected a signature"):
        Signature.from_json(b'{"project": 3}')
    with pytest.raises(ArtifactError, match="Upgrade timonel"):
        Signature.from_json(replace(OLD, format=99).to_json())


def test_equal_signatures_have_no_differences() -> None:
    assert differences() == []


def test_a_removed_field_breaks_and_an_added_one_breaks_unless_it_may_be_missing() -> None:
    sentence, breaking = differences(columns=(AGE,))[0]
    assert "sex was removed" in sentence
    assert breaking
    fare = Column("fare", "number")
    assert differences(columns=(AGE, SEX, fare))[0][1]
    assert not differences(columns=(AGE, SEX, replace(fare, nullable=True)))[0][1]


@pytest.mark.parametrize(
    ("column", "word", "breaking"),
    [
        (replace(AGE, ge=None), "widened", False),
        (replace(AGE, lt=200), "widened", False),
        (replace(AGE, lt=None, le=150), "widened", False),
        (replace(AGE, ge=1), "narrowed", True),
        (replace(AGE, ge=None, gt=0), "narrowed", True),
        (replace(AGE, lt=100), "narrowed", True),
        (replace(AGE, nullable=False), "narrowed", True),
        (replace(AGE, ge=None, lt=100), "narrowed", True),
        (replace(AGE, kind="category", ge=None, lt=None), "another kind", True),
        (replace(AGE, kind="integer"), "another kind", True),
    ],
)
def test_a_changed_number_is_widened_or_narrowed(column: Column, word: str, breaking: bool) -> None:
    sentence, breaks = field(column)
    assert word in sentence
    assert sentence.startswith("Field age took number, ≥ 0, < 150 or missing, now ")
    assert breaks is breaking


def test_a_whole_number_that_becomes_any_number_is_widened() -> None:
    old = replace(OLD, columns=(Column("age", "integer"),))
    (found,) = compatible(old, replace(OLD, columns=(Column("age", "number"),)))
    assert not found.breaking


@pytest.mark.parametrize(
    ("categories", "breaking"),
    [(("male", "female", "other"), False), (None, False), (("male",), True)],
)
def test_a_changed_set_of_categories_is_widened_or_narrowed(
    categories: tuple[str, ...] | None, breaking: bool
) -> None:
    (found,) = compatible(OLD, replace(OLD, columns=(AGE, replace(SEX, categories=categories))))
    assert found.breaking is breaking


def test_changed_lengths_of_text_are_widened_or_narrowed() -> None:
    old = replace(OLD, columns=(Column("code", "category", min_length=2, max_length=4),))
    for column, breaking in (
        (Column("code", "category", min_length=1, max_length=4), False),
        (Column("code", "category", min_length=2), False),
        (Column("code", "category", min_length=4, max_length=4), True),
    ):
        (found,) = compatible(old, replace(old, columns=(column,)))
        assert found.breaking is breaking


def test_another_shape_of_picture_breaks() -> None:
    old = replace(OLD, columns=(Column("pixels", "image", image=Image(28, 28)),))
    new = replace(OLD, columns=(Column("pixels", "image", image=Image(32, 32)),))
    assert compatible(old, new)[0].breaking


def test_an_added_class_breaks_since_clients_do_not_know_it_and_a_removed_one_does_not() -> None:
    assert differences(classes=(0, 1, 2)) == [
        ("Classes 2 were added: clients do not know them.", True)
    ]
    assert differences(classes=(0,)) == [("Classes 1 were removed: never answered now.", False)]


def test_another_target_breaks() -> None:
    assert differences(target="age_group") == [("The target was survived, now age_group.", True)]
