"""Wire contracts: answers as replies."""

from typing import get_type_hints

import numpy as np
from pydantic import TypeAdapter

from timonel.contract import Answer, labels, standard_reply


def answer(given: list[int], *, single: bool) -> Answer:
    return Answer(
        id="an-id",
        labels={"rf": given},
        scores={"rf": np.full((len(given), 2), 0.5, np.float32)},
        classes={"rf": (0, 1)},
        versions={"rf": "penguins/rf@3"},
        seconds=0.1,
        single=single,
    )


def test_the_standard_reply_to_one_row_is_its_answer() -> None:
    assert standard_reply(answer([1], single=True)) == {
        "prediction": 1,
        "probabilities": {"0": 0.5, "1": 0.5},
        "id": "an-id",
        "version": "penguins/rf@3",
    }


def test_the_standard_reply_to_several_rows_is_a_list_in_their_order() -> None:
    reply = standard_reply(answer([1, 0], single=False))
    assert [row["prediction"] for row in reply["predictions"]] == [1, 0]
    assert standard_reply(answer([], single=False))["predictions"] == []


def test_labels_are_listed_under_a_key() -> None:
    assert labels("prediction")(answer([0, 2], single=False)) == {"prediction": [0, 2]}
    assert labels("predictions")(answer([], single=False)) == {"predictions": []}
    assert labels("kinds", str)(answer([1], single=True)) == {"kinds": ["1"]}


def test_such_a_reply_is_documented_with_its_key_and_kind() -> None:
    returned = get_type_hints(labels("prediction"))["return"]
    schema = TypeAdapter(returned).json_schema(mode="serialization")
    assert schema["required"] == ["prediction"]
    assert schema["properties"]["prediction"]["items"] == {"type": "integer"}
    assert labels("prediction").__name__ == "labels('prediction')"
