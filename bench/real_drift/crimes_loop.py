"""Crimes by the tree alone, with policies whose hours and days are seconds and minutes."""

import time
from dataclasses import replace
from datetime import UTC, datetime

from typing_extensions import TypedDict

import timonel as t
from timonel.projects import crimes


class Reply(TypedDict):
    """The tree's answer."""

    dtc_fbi_code_output: str


def reply(answer: t.Answer) -> Reply:
    """It under its own name."""
    return {"dtc_fbi_code_output": str(answer.labels["dtc"][0])}


# The source's rows are of 2016 and 2017, and live ones are dated by the clock. The rows of the end
# of 2016 are eight half-lives old, whenever this runs: of these, one in 256 is trained on again.
HALF_LIFE = (time.time() - datetime(2017, 1, 1, tzinfo=UTC).timestamp()) / 8

project = replace(
    crimes.project,
    models=[t.Model("dtc", crimes.tree, t.Grid(leaf=[1, 2]), "f1_weighted", 0)],
    contract=replace(crimes.project.contract, reply=reply),
    layout=None,
    drift=replace(crimes.project.drift, dated="date", every=2, window=1_000),
    retrain=t.Retrain(
        on=("drift",), windows=2, rows=3_000, cooldown=5, runs=1, half_life=HALF_LIFE
    ),
    gate=replace(crimes.project.gate, past=0.05),
    rollout=t.Canary(
        steps=(0.1, 0.5, 1),
        requests=100,
        seconds=5,
        longest=900,
        watch=10,
        limits=t.Limits(errors=0.01, slower=5),
    ),
)
