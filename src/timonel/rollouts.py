"""How traffic moves to a new version: the plans, as frozen data, and what they ask of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from timonel.errors import DefinitionError

__all__ = [
    "AllAtOnce",
    "BlueGreen",
    "Canary",
    "Limits",
    "Rollout",
    "Shadow",
    "plan_from_dict",
    "plan_to_dict",
]


def _check(owner: str, name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise DefinitionError(
            f"{owner}: expected {name} between {low:g} and {high:g}, got {value!r}.",
            remedy=f"Give {owner}({name}=…) a value in that range.",
        )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much worse than the champion a challenger may be, and how sure one must be of it.

    `accuracy`: by which its share of right answers may be lower, on rows that both answered.
    `errors`: by which its share of failed requests may be higher. `slower`: how many times longer
    its 99th percentile of the answer time may be. `disagreement`: the share of rows that it may
    answer differently, which decides while there are no labels. `alpha`: the chance (of each of
    the three) that a version beyond a limit passes, and that one within it is rolled back, however
    often one looks. `labels`: `require` never promotes without; `prefer` waits for labels where the
    project gets any, and goes by agreement elsewhere; `ignore` always goes by agreement.
    """

    accuracy: float = 0.01
    errors: float = 0.005
    slower: float = 1.5
    disagreement: float = 0.1
    alpha: float = 0.01
    labels: Literal["require", "prefer", "ignore"] = "prefer"

    def __post_init__(self) -> None:
        _check("Limits", "accuracy", self.accuracy, 1e-4, 0.5)
        _check("Limits", "errors", self.errors, 1e-4, 0.5)
        _check("Limits", "slower", self.slower, 1.01, 100.0)
        _check("Limits", "disagreement", self.disagreement, 1e-4, 1.0)
        _check("Limits", "alpha", self.alpha, 1e-6, 0.2)


@dataclass(frozen=True, kw_only=True)
class AllAtOnce:
    """Every request moves to the version as soon as it passed the gate.

    For `watch` seconds after, it may still be rolled back if it turns out to be beyond `limits`.
    """

    limits: Limits = Limits()
    watch: float = 0.0

    def __post_init__(self) -> None:
        _check("AllAtOnce", "watch", self.watch, 0.0, 30 * 86_400)


@dataclass(frozen=True, kw_only=True)
class BlueGreen:
    """The challenger answers a mirrored share of live requests unseen; then all move at once.

    It is checked on at least `requests` mirrored requests and for `seconds`. If `longest` seconds
    did not decide, `undecided` says what happens. `watch` as for `AllAtOnce`.
    """

    share: float = 1.0
    requests: int = 200
    seconds: float = 10.0
    longest: float = 3_600.0
    undecided: Literal["roll back", "promote"] = "roll back"
    limits: Limits = Limits()
    watch: float = 600.0

    def __post_init__(self) -> None:
        _check("BlueGreen", "share", self.share, 0.0001, 1.0)
        _check("BlueGreen", "requests", self.requests, 1, 10**9)
        _check("BlueGreen", "seconds", self.seconds, 0.0, self.longest)
        _check("BlueGreen", "watch", self.watch, 0.0, 30 * 86_400)


@dataclass(frozen=True, kw_only=True)
class Canary:
    """Steps of a growing share of live requests (0..1), the last of them 1: the promotion itself.

    Each step takes at least `requests` of the challenger's requests and `seconds`. The last step
    below 1 is held until everything passed, as both versions must answer to be compared; `longest`
    seconds after the start without a decision, `undecided` says what happens. A request's share
    depends on its prediction id, or on the HTTP header named by `sticky` where a request has it, so
    that one caller keeps getting one version.
    """

    steps: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 1.0)
    requests: int = 100
    seconds: float = 30.0
    longest: float = 86_400.0
    undecided: Literal["roll back", "promote"] = "roll back"
    sticky: str | None = None
    limits: Limits = Limits()
    watch: float = 600.0

    def __post_init__(self) -> None:
        if (
            not self.steps
            or list(self.steps) != sorted(set(self.steps))
            or not 0 < self.steps[0] < self.steps[-1] == 1
        ):
            raise DefinitionError(
                f"Canary: expected growing steps, the last of them 1, got {self.steps!r}.",
                remedy="Write, for example, Canary(steps=(0.05, 0.5, 1)).",
            )
        _check("Canary", "requests", self.requests, 1, 10**9)
        _check("Canary", "seconds", self.seconds, 0.0, self.longest)
        _check("Canary", "watch", self.watch, 0.0, 30 * 86_400)


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """The challenger answers a mirrored share of live requests, and nobody sees it.

    It ends after `requests` mirrored requests and `seconds` with a comparison; `then` says whether
    a version that passed is promoted. Without a decision it ends after `longest` seconds.
    """

    share: float = 0.1
    requests: int = 1_000
    seconds: float = 60.0
    longest: float = 86_400.0
    then: Literal["keep", "promote"] = "keep"
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _check("Shadow", "share", self.share, 0.0001, 1.0)
        _check("Shadow", "requests", self.requests, 1, 10**9)
        _check("Shadow", "seconds", self.seconds, 0.0, self.longest)


Rollout = AllAtOnce | BlueGreen | Canary | Shadow


def plan_to_dict(plan: Rollout) -> dict[str, Any]:
    """A plan as JSON values; its class's name is `kind`."""
    import msgspec

    values: dict[str, Any] = msgspec.to_builtins(plan)
    return {"kind": type(plan).__name__, **values}


def plan_from_dict(values: Mapping[str, Any]) -> Rollout:
    """What `plan_to_dict` gave.

    Raises:
        DefinitionError: it is no plan, or one with values that a plan cannot have.
    """
    import msgspec

    kinds: dict[str, type[Rollout]] = {
        kind.__name__: kind for kind in (AllAtOnce, BlueGreen, Canary, Shadow)
    }
    kind = kinds.get(str(values.get("kind")))
    if kind is None:
        raise DefinitionError(
            f"Expected a plan's kind ({', '.join(kinds)}), got {values.get('kind')!r}."
        )
    rest = {name: value for name, value in values.items() if name != "kind"}
    try:
        return msgspec.convert(rest, kind)
    except msgspec.ValidationError as error:
        raise DefinitionError(f"{kind.__name__}: {error}") from None
