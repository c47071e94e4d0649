"""From a run's results to docs/drift-on-real-data.md."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

__all__ = ["page", "stages"]

_PAGE = Path(__file__).with_name("page.md")
_SHOWN = 110  # characters of a sentence in a table's cell


def page(results: Mapping[str, Any]) -> str:
    """The page; all of its figures are of these results.

    Raises:
        KeyError: the results are of a run in which something did not happen.
    """
    after, quiet, alarm = results["after"], results["quiet"], results["first_alarm"]
    errors, rows = after["errors"], after["rows"]
    retrain = next(one for one in results["decisions"] if one["act"] == "retrain")
    run = next(one for one in results["runs"] if one["who"] == "controller")
    first = next(one for one in results["runs"] if one["who"] != "controller")
    failed, loop = sum(results["requests"]["failed"].values()), quiet["in_the_loop"]
    return Template(_PAGE.read_text()).substitute(
        minutes=f"{results['minutes']:.0f}",
        load=f"{results['load'][0]:.0f} and {results['load'][1]:.0f}",
        plan_rate=f"{results['plan']['quiet_rate']:.0f}",
        late_rate=f"{results['plan']['rate']:.0f}",
        running=f"{results['plan']['running']:.0f}",
        delay=f"{results['plan']['delay']:.0f}",
        first_minutes=f"{first['minutes']:.1f}",
        quiet_rows=f"{quiet['rows']:,}",
        quiet_accuracy=f"{quiet['accuracy']:.2%}",
        checks=loop["checks"],
        check_alarms=len(loop["alarms"]),
        check_rate=f"{len(loop['alarms']) / max(loop['checks'], 1):.1%}",
        windows=_windows(quiet["windows"]),
        late_rows=f"{results['late']['rows']:,}",
        alarm_rows=f"{alarm['rows_asked']:,}",
        alarm_looked=f"{alarm['rows_looked_at']:,}",
        alarm_sentence=alarm["sentence"],
        named_rows=f"{results['reworded_named']['rows_asked']:,}",
        named_sentence=results["reworded_named"]["sentence"],
        wording=_wording(results["wording"]),
        retrain_rows=f"{retrain['rows']:,}",
        retrain_sentence=retrain["sentence"],
        run_minutes=f"{run['minutes']:.1f}",
        run_reason=run["reason"],
        stages=_table(
            ("seconds", "rows of 2024", "what", "why"),
            (
                (f"{one['seconds']:.0f}", f"{one['rows']:,}", one["stage"], _short(one["sentence"]))
                for one in stages(results)
            ),
        ),
        promoted=next(one["sentence"] for one in results["moments"] if one["stage"] == "promoted"),
        rollout_reason=results["rollouts"][0]["reason"],
        later=f"{rows:,}",
        before=f"{errors['before']:,} ({errors['before'] / rows:.2%})",
        after=f"{errors['after']:,} ({errors['after'] / rows:.2%})",
        live=f"{after['live']:,}",
        live_errors=f"{after['live_errors']:,} ({after['live_errors'] / after['live']:.2%})",
        ratio=f"{errors['before'] / max(errors['after'], 1):.1f}",
        moved=after["moved_rows"],
        moved_before=after["moved_right"]["before"],
        moved_after=after["moved_right"]["after"],
        requests=f"{results['requests']['rows']:,}",
        labels=f"{results['requests']['labels']:,}",
        failed=failed,
    )


def stages(results: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The moments that tell the story: not each time that live accuracy came and went."""
    found, seen = [], set()
    for one in results["moments"]:
        key = one["stage"], "is right on" in one["sentence"]
        if one["stage"] in ("alarm", "quiet") and (key in seen or one["stage"] == "quiet"):
            continue
        seen.add(key)
        found.append(one)
    return found


def _windows(found: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        (
            f"{one['rows']:,}",
            "watched" if one["confidence"] else "excluded",
            one["windows"],
            f"{one['alarms']} ({one['alarms'] / max(one['windows'], 1):.1%})",
            ", ".join(f"{name} {count}" for name, count in one["named"].items()) or "–",
        )
        for one in found
    )
    return _table(("rows a window", "confidence", "windows", "alarms", "columns named"), rows)


def _wording(found: Mapping[str, Any]) -> str:
    rows = (
        (name, f"{column['unseen']:.1%}", pair["old"], pair["new"], pair["rows"])
        for name, column in found.items()
        for pair in column["pairs"]
    )
    return _table(("column", "rows unseen", "2016–2017", "2024", "rows"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= _SHOWN else sentence[: _SHOWN - 1].rstrip() + "…"
