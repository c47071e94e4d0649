"""What is known of two versions that answer at once: counts that add up, in any order."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["EDGES", "Arm", "Evidence", "Pairs", "latency_bin"]

_LEAST, _MOST, _STEP = 1e-5, 100.0, 1.05
EDGES: tuple[float, ...] = tuple(
    _LEAST * _STEP**n for n in range(math.ceil(math.log(_MOST / _LEAST, _STEP)) + 1)
)
"""The upper edges of the latency bins, in seconds, each 5 % above the one before."""


def latency_bin(seconds: float) -> int:
    """The bin of a latency; those above the last edge share the bin behind it."""
    return bisect_right(EDGES, seconds)


@dataclass(frozen=True)
class Arm:
    """One version's traffic: requests, those of them that failed, and how long they took.

    `latencies` maps a bin (see `latency_bin`) to the answered requests in it.
    """

    requests: int = 0
    failed: int = 0
    latencies: dict[int, int] = field(default_factory=dict)

    def __add__(self, other: "Arm") -> "Arm":
        bins = dict(self.latencies)
        for place, count in other.latencies.items():
            bins[place] = bins.get(place, 0) + count
        return Arm(self.requests + other.requests, self.failed + other.failed, bins)

    @classmethod
    def of(cls, seconds: Sequence[float], failed: int = 0) -> "Arm":
        """From the latencies of the answered requests and the number of failed ones."""
        bins: dict[int, int] = {}
        for one in seconds:
            place = latency_bin(one)
            bins[place] = bins.get(place, 0) + 1
        return cls(len(seconds) + failed, failed, bins)

    @property
    def answered(self) -> int:
        """The requests whose time is known."""
        return sum(self.latencies.values())

    def above(self, place: int) -> int:
        """Answered requests in the bins from `place` on."""
        return sum(count for one, count in self.latencies.items() if one >= place)

    def quantile(self, share: float) -> float:
        """The upper edge, in seconds, of the bin in which a share is reached; 0 without any."""
        wanted, seen = share * self.answered, 0
        for place in sorted(self.latencies):
            seen += self.latencies[place]
            if seen >= wanted:
                return EDGES[min(place, len(EDGES) - 1)]
        return 0.0


@dataclass(frozen=True)
class Pairs:
    """Rows that both versions answered.

    Of those whose label is known: `better` where only the challenger was right, `worse` where only
    the champion was, `same` otherwise. `agreed` and `disagreed` need no label.
    """

    worse: int = 0
    same: int = 0
    better: int = 0
    agreed: int = 0
    disagreed: int = 0

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs(
            self.worse + other.worse,
            self.same + other.same,
            self.better + other.better,
            self.agreed + other.agreed,
            self.disagreed + other.disagreed,
        )

    @property
    def labelled(self) -> int:
        """The rows whose label is known."""
        return self.worse + self.same + self.better


@dataclass(frozen=True)
class Evidence:
    """Both arms and what they were asked alike, since a rollout began."""

    champion: Arm = Arm()
    challenger: Arm = Arm()
    pairs: Pairs = Pairs()

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.champion + other.champion,
            self.challenger + other.challenger,
            self.pairs + other.pairs,
        )
