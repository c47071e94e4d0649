"""Tests that may be looked at after every request, and stop whenever they like.

Each returns the logarithm of an e-value: a statistic whose expected value is at most 1 while its
null hypothesis holds, at whatever moment it is read. By Ville's inequality it ever exceeds 1/α with
a probability of at most α. All depend on counts alone, so the order of the rows, the number of
looks and a restart in between change nothing.

Sources: Ville, "Étude critique de la notion de collectif" (1939); Robbins, "Statistical methods
related to the law of the iterated logarithm" (1970), for mixtures; Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting" (JRSS B, 2024), for the paired test.
"""

import math
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["against_mean_at_most", "mean_bounds", "share_bounds"]

_BETS = 64
_MOST_BET = 0.499
_TOLERANCE = 1e-7


@cache
def _bets() -> "np.ndarray":
    """The stakes that the paired test mixes over, from careful to bold, equally weighted."""
    import numpy as np

    return np.geomspace(1e-4, _MOST_BET, _BETS)


def against_mean_at_most(mean: float, minus: int, zero: int, plus: int) -> float:
    """Log e-value against "differences of -1, 0 and +1 have a mean of at most `mean`".

    `minus`, `zero` and `plus` say how often each was seen; `mean` lies between -1 and 1. A gambler
    stakes a share λ of the wealth on each difference; the wealth after n of them, averaged over λ,
    is the e-value.
    """
    import numpy as np

    bets = _bets()
    wealth = (
        minus * np.log1p(bets * (-1 - mean))
        + zero * np.log1p(bets * -mean)
        + plus * np.log1p(bets * (1 - mean))
    )
    top = float(wealth.max())
    return top + math.log(float(np.exp(wealth - top).mean()))


def mean_bounds(minus: int, zero: int, plus: int, alpha: float) -> tuple[float, float]:
    """The confidence sequence of the mean difference: what neither side refuses at `alpha` / 2."""
    limit = math.log(2 / alpha)

    def lowest(minus: int, plus: int) -> float:
        if against_mean_at_most(-1.0, minus, zero, plus) < limit:
            return -1.0
        low, high = -1.0, 1.0
        while high - low > _TOLERANCE:
            middle = (low + high) / 2
            if against_mean_at_most(middle, minus, zero, plus) < limit:
                high = middle
            else:
                low = middle
        return low

    return lowest(minus, plus), -lowest(plus, minus)


def share_bounds(successes: int, trials: int, alpha: float) -> tuple[float, float]:
    """The confidence sequence of a share, from `successes` in `trials`; at most `alpha` in all.

    The e-value against a share p is the mean likelihood under a Beta(½, ½) prior over that under p.
    """
    if not trials:
        return 0.0, 1.0
    failures = trials - successes
    prior = math.lgamma(0.5) * 2 - math.lgamma(1.0)
    evidence = (
        math.lgamma(0.5 + successes) + math.lgamma(0.5 + failures) - math.lgamma(1.0 + trials)
    ) - prior
    limit = math.log(1 / alpha)

    def refused(share: float) -> bool:
        likelihood = 0.0
        if successes:
            likelihood += successes * math.log(share) if share > 0 else -math.inf
        if failures:
            likelihood += failures * math.log1p(-share) if share < 1 else -math.inf
        return evidence - likelihood >= limit

    estimate = successes / trials

    def edge(outside: float) -> float:
        if not refused(outside):
            return outside
        inside = estimate
        while abs(inside - outside) > _TOLERANCE * max(estimate, 1e-3):
            middle = (inside + outside) / 2
            if refused(middle):
                outside = middle
            else:
                inside = middle
        return outside

    return edge(0.0), edge(1.0)
