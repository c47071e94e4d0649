"""Wire contracts: answers as replies."""

import numpy as np

from timonel.contract import Answer, standard_reply


def answer(labels: list[int], *, single: bool) -> Answer:
    return Answer(
        id="an-id",
        labels={"rf": labels},
        scores={"rf": np.full((len(labels), 2), 0.5, np.float32)},
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
