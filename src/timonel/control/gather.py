"""The evidence on a rollout, gathered from the journal's segments since it began.

Segments never change, so what one says is worked out once; labels are joined anew each time, as
they may come late. A restart in between loses nothing: all of it is read again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from timonel.control.evidence import Arm, Evidence, Pairs
from timonel.journal.layout import completed
from timonel.monitoring.replay import Replay
from timonel.monitoring.traffic import Answers, answers_of, labelled, times_of
from timonel.rollouts import AllAtOnce
from timonel.stores.labels import Label, Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.rollouts import Standing
from timonel.stores.segments import Segment, Segments
from timonel.stores.versions import Version

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

__all__ = ["Gathered", "Gatherer"]

_LOOK_BACK = 3_600.0
"""seconds before a change all at once, from which the champion's usual times and failures come"""


@dataclass(frozen=True)
class Gathered:
    """The evidence, and the challenger's requests since the present step began."""

    evidence: Evidence
    step_requests: int


@dataclass(frozen=True)
class _Piece:
    """What one segment says of a rollout."""

    champion: Arm
    challenger: Arm
    answers: Answers
    times: "np.ndarray"  # of the challenger's requests, seconds since 1970, rising


class Gatherer:
    """Gathers for any number of rollouts; ended ones are forgotten.

    The rows of `incomplete` projects are not recorded whole, and cannot be asked again of the other
    version: only those that both were asked are compared.
    """

    def __init__(
        self,
        segments: Segments,
        labels: Labels,
        objects: ObjectStore,
        replay: Replay,
        *,
        incomplete: Collection[str] = (),
    ) -> None:
        self._incomplete = incomplete
        self._segments = segments
        self._labels = labels
        self._objects = objects
        self._replay = replay
        self._pieces: dict[str, dict[str, _Piece]] = {}  # rollout → segment's source → what it says
        self._totals: dict[str, tuple[tuple[int, int, float], Evidence]] = {}

    def forget_all_but(self, rollouts: Sequence[str]) -> None:
        """Let go of what was worked out for others."""
        self._pieces = {key: self._pieces[key] for key in rollouts if key in self._pieces}
        self._totals = {key: self._totals[key] for key in rollouts if key in self._totals}

    def __call__(self, standing: Standing, champion: Version, challenger: Version) -> Gathered:
        """What is known of a rollout by now.

        `champion` is the version that it started against.

        Raises:
            StoreError: a store does not answer.
        """
        pieces = self._pieces.setdefault(standing.id, {})
        all_at_once = isinstance(standing.plan, AllAtOnce)
        since = standing.started - (_LOOK_BACK if all_at_once else 0.0)
        listed = self._segments.list(standing.project, since=since)
        for segment in listed:
            if segment.source not in pieces:
                pieces[segment.source] = self._piece(segment, since, champion, challenger)
        known = [pieces[segment.source] for segment in listed]
        asked = sum(len(p.times) - int(p.times.searchsorted(standing.since)) for p in known)
        return Gathered(self._total(standing, listed, known), asked)

    def _total(
        self, standing: Standing, listed: Sequence[Segment], known: Sequence[_Piece]
    ) -> Evidence:
        """All pieces together; worked out anew when there are more of them, or more labels."""
        said = self._labels.count(standing.project), self._labels.latest(standing.project)
        key = (len(listed), *said)
        if self._totals.get(standing.id, (None,))[0] == key:
            return self._totals[standing.id][1]
        total = Evidence(pairs=self._pairs(standing, listed, known))
        for piece in known:
            total += Evidence(piece.champion, piece.challenger)
        self._totals[standing.id] = (key, total)
        return total

    def _pairs(
        self, standing: Standing, listed: Sequence[Segment], known: Sequence[_Piece]
    ) -> Pairs:
        """The labels meet the answers of all segments at once: there may be many of either."""
        import polars as pl

        if not known:
            return Pairs()
        answers = Answers(pl.concat([piece.answers.frame for piece in known]))
        right = labelled(answers, self._labels_of(standing.project, listed))
        return Pairs(*right, agreed=answers.agreed, disagreed=answers.disagreed)

    def _piece(
        self, segment: Segment, since: float, champion: Version, challenger: Version
    ) -> _Piece:
        frame = self._read(segment, since, champion.model)
        versions: Mapping[str, Version] = {champion.label: champion, challenger.label: challenger}
        arms = []
        for label in versions:
            times = times_of(frame, label)
            arms.append(Arm.of(times.seconds, times.failed))
        answers = answers_of(
            frame,
            champion.label,
            challenger.label,
            None
            if segment.project in self._incomplete
            else lambda label, rows: self._replay(versions[label], rows),
        )
        return _Piece(arms[0], arms[1], answers, _moments(frame, challenger.label))

    def _read(self, segment: Segment, since: float, model: str) -> "pl.DataFrame":
        import polars as pl

        frame = completed(pl.read_parquet(BytesIO(self._objects.get(segment.object_key))))
        moment = pl.col("time").dt.timestamp("us") / 1e6
        return frame.filter(pl.col("model") == model, moment >= since)

    def _labels_of(self, project: str, segments: Sequence[Segment]) -> Sequence[Label]:
        if not segments:
            return ()
        first, last = min(s.first_id for s in segments), max(s.last_id for s in segments)
        return self._labels.between(project, first, last)


def _moments(frame: "pl.DataFrame", version: str) -> "np.ndarray":
    """When each of a version's requests was answered, rising."""
    import polars as pl

    mine = frame.filter(pl.col("version") == version)
    requests = mine.group_by(pl.col("id").str.slice(0, 36)).agg(pl.col("time").first())
    return (requests["time"].dt.timestamp("us") / 1e6).sort().to_numpy()
