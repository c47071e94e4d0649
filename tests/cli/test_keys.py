"""`timonel keys`: the secret is printed once, and the rest can be looked at."""

import pytest

from tests.cli.conftest import Timonel


def test_a_key_is_printed_once_and_alone_on_standard_output(timonel: Timonel) -> None:
    ended = timonel("keys", "create", "shop", "--project", "digits", "--rate", "600")
    assert ended.code == 0
    token = ended.out.strip()
    assert token.startswith("timonel_")
    assert "\n" not in token
    assert "shown this once" in ended.err
    listed = timonel("keys", "list").out
    assert "shop" in listed
    assert "600/min" in listed
    assert token.rpartition("_")[2] not in listed


def test_a_key_as_json_says_what_it_opens(timonel: Timonel) -> None:
    made = timonel(
        "keys", "create", "ops", "--scope", "operate", "--scope", "predict", "--expires", "30d",
        "--json",
    ).json()  # fmt: skip
    assert made["scopes"] == ["operate", "predict"]
    assert made["expires"] - made["created"] == pytest.approx(30 * 86_400, abs=60)
    [listed] = timonel("keys", "list", "--json").json()
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert (listed["state"], "digest" in listed) == ("valid", False)


def test_a_rotated_key_says_how_long_the_former_is_good(timonel: Timonel) -> None:
    first = timonel("keys", "create", "shop").out
    ended = timonel("keys", "rotate", "shop", "--overlap", "7d")
    assert ended.code == 0
    assert ended.out != first
    assert ended.out.split("_")[1] == first.split("_")[1]
    assert "stays good until" in ended.err
    [listed] = timonel("keys", "list", "--json").json()
    assert listed["former_until"] > listed["created"] + 6 * 86_400
    assert timonel("keys", "rotate", "shop", "--overlap", "0").err.count("\n") == 1


def test_a_revoked_key_stays_in_the_list(timonel: Timonel) -> None:
    timonel("keys", "create", "shop")
    assert "is revoked" in timonel("keys", "revoke", "shop").out
    assert [key["state"] for key in timonel("keys", "list", "--json").json()] == ["revoked"]
    made = timonel("keys", "create", "shop", "--json").json()
    ended = timonel("keys", "revoke", made["id"], "--json")
    assert ended.json()["state"] == "revoked"


def test_without_keys_the_list_says_how_to_make_one(timonel: Timonel) -> None:
    ended = timonel("keys", "list")
    assert (ended.code, "timonel keys create NAME" in ended.err) == (0, True)
    assert timonel("keys", "list", "--json").json() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "shop", "--expires", "soon"], "--expires, got 'soon'"),
        (["create", "shop", "--expires", "0"], "an end that is to come"),
        (["create", "shop", "--rate", "0"], "a rate of at least 1"),
        (["rotate", "shop"], "got 'shop', which there is not"),
        (["rotate", "shop", "--overlap", "-1h"], "--overlap, got '-1h'"),
        (["rotate", "shop", "--overlap", "1w"], "--overlap, got '1w'"),
        (["revoke", "shop"], "timonel keys list"),
    ],
)
def test_a_mistake_is_a_sentence(timonel: Timonel, arguments: list[str], said: str) -> None:
    ended = timonel("keys", *arguments)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
