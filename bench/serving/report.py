"""From measured runs to medians, ratios and docs/performance.md."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

__all__ = ["GOALS", "Goal", "line", "medians", "page", "ratios", "summary"]

OURS = "timonel"
_PAGE = Path(__file__).with_name("page.md")
PROJECT_TITLES = {
    "penguins": "penguins: imputer, scaler and random forest of 100 trees, 4 numbers",
    "digits": "digits: the network `mnist-8.onnx`, 784 numbers",
    "digits-cnn": "digits with the larger network that ships with the package",
}


@dataclass(frozen=True)
class Goal:
    """What a figure should be: of ours alone, or of ours divided by the best of `peers`.

    `kind` is `ratio` (requests a second), `latency` (of 1 connection, median, divided) or `p99`
    (of the most connections, divided). `least` says that more is better.
    """

    kind: str
    peers: tuple[str, ...]
    limits: dict[str, float]

    @property
    def least(self) -> bool:
        """Whether the figure should be at least the limit, not at most."""
        return self.kind == "ratio"


GOALS = (
    Goal("ratio", ("noop",), {"penguins": 0.45, "digits": 0.2}),
    Goal("ratio", ("handtuned",), {"penguins": 0.8, "digits": 0.8}),
    Goal("ratio", ("fastapi", "fastapi-async"), {"penguins": 80, "digits": 3}),
    Goal("ratio", ("mlflow",), {"penguins": 280, "digits": 17}),
    Goal("ratio", ("bentoml",), {"penguins": 35, "digits": 12}),
    Goal("ratio", ("litserve",), {"penguins": 18, "digits": 9}),
    Goal("ratio", ("mlserver",), {"penguins": 18, "digits": 7}),
    Goal("ratio", ("ray",), {"penguins": 80, "digits": 45}),
    Goal("ratio", ("vetiver",), {"penguins": 180}),
    Goal("latency", ("handtuned",), {"penguins": 1.5, "digits": 1.5}),
    Goal("p99", ("handtuned",), {"penguins": 1.5, "digits": 1.5}),
)
WEIGHT = {
    "first_answer_s": ("from process start to the first right answer", "s", 1.2),
    "worker_mib": ("memory of the larger worker, PSS", "MiB", 120 / 1.048576),
    "import_s": ("`import timonel`", "s", 0.15),
    "help_s": ("`timonel --help`", "s", 0.3),
}
_KINDS = {"ratio": "requests/s", "latency": "median latency", "p99": "99th percentile"}


def medians(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """By project and server the medians of the runs without error, with `load` by connections.

    `failed` is the sum, `rounds` how many runs there were.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in results["runs"]:
        of = found.setdefault(run["project"], {})
        if not run["error"] and run["server"] not in of:
            of[run["server"]] = _median(
                [
                    other
                    for other in results["runs"]
                    if (other["project"], other["server"]) == (run["project"], run["server"])
                    and not other["error"]
                ]
            )
    return found


def _median(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    flat = ("start_s", "pss_mib", "processes", "largest_child_mib")
    loads = {
        connections: {
            name: sum(run["load"][connections][name] for run in runs)
            if name == "failed"
            else statistics.median(run["load"][connections][name] for run in runs)
            for name in load
        }
        for connections, load in runs[0]["load"].items()
    }
    middle = {name: statistics.median(run[name] for run in runs) for name in flat}
    return middle | {"load": loads, "rounds": len(runs)}


def ratios(results: dict[str, Any]) -> list[tuple[Goal, str, float | None, bool]]:
    """Each goal with project, figure (None: not measured) and whether it is met."""
    middle = medians(results)
    penguins = middle.get("penguins", {})
    rows = []
    for goal in GOALS:
        for project, limit in goal.limits.items():
            # A no-op is one number: asked with the smallest rows, it is the hardest floor.
            floor = {name: found for name, found in penguins.items() if name == "noop"}
            figure = _figure(goal, floor | middle.get(project, {}))
            met = figure is not None and (figure >= limit if goal.least else figure <= limit)
            rows.append((goal, project, figure, met))
    return rows


def _figure(goal: Goal, servers: dict[str, dict[str, Any]]) -> float | None:
    ours = servers.get(OURS)
    peers = [servers[name] for name in goal.peers if name in servers]
    if ours is None or not peers:
        return None
    name = {"ratio": "req_s", "latency": "p50_ms", "p99": "p99_ms"}[goal.kind]
    few, many = _few_and_many(ours)
    connections = few if goal.kind == "latency" else many
    choose = max if goal.least else min
    theirs = choose(float(peer["load"][connections][name]) for peer in peers)
    return float(ours["load"][connections][name]) / theirs if theirs else None


def _few_and_many(measured: dict[str, Any]) -> tuple[str, str]:
    numbers = sorted(measured["load"], key=int)
    return numbers[0], numbers[-1]


def line(run: dict[str, Any]) -> str:
    """One run in one line."""
    where = f"{run['round']} {run['project']:<10} {run['server']:<13}"
    if run["error"]:
        return f"{where} {run['error']}"
    loads = "  ".join(
        f"c{connections}: {load['req_s']:8.0f}/s p50 {load['p50_ms']:7.2f} p99 "
        f"{load['p99_ms']:8.2f} ms cpu {load['cpu_us']:7.0f} µs failed {load['failed']:.0f}"
        for connections, load in run["load"].items()
    )
    return f"{where} start {run['start_s']:5.2f} s  {run['pss_mib']:5.0f} MiB  {loads}"


def summary(results: dict[str, Any]) -> str:
    """The tables for a terminal."""
    return "\n".join([*_absolute(results), *_goals(results), *_weight(results), ""])


def page(results: dict[str, Any]) -> str:
    """docs/performance.md: `page.md` beside this file, with tables and verdicts of the results."""
    settings = results["settings"]
    given = results["machine"] | {
        "date": results["date"],
        "rounds": settings["rounds"],
        "payloads": settings["payloads"],
        "seconds": f"{settings['seconds']:g}",
        "connections": " and ".join(map(str, settings["connections"])),
        "failed": _failed(results),
    }
    tables = {
        "absolute": _absolute(results),
        "goals": _goals(results),
        "reading": _reading(results),
        "weight": _weight(results),
        "setups": _setups(results),
    }
    template = Template(_PAGE.read_text())
    return template.substitute(given | {name: "\n".join(rows) for name, rows in tables.items()})


def _absolute(results: dict[str, Any]) -> list[str]:
    middle, lines = medians(results), []
    for project, servers in middle.items():
        if not servers:
            continue
        few, many = _few_and_many(next(iter(servers.values())))
        busy_heads = f"| server | req/s, {many} | median ms | p99 ms | CPU µs "
        quiet_heads = f"| req/s, {few} | median ms | p99 ms | PSS MiB | start s |"
        lines += [f"### {PROJECT_TITLES.get(project, project)}", "", busy_heads + quiet_heads]
        lines.append("|---" + "|--:" * 9 + "|")
        for name in results["servers"]:
            if name not in servers:
                continue
            found, title = servers[name], results["servers"][name]["title"]
            busy, quiet = found["load"][many], found["load"][few]
            cells = [
                f"{busy['req_s']:,.0f}",
                _ms(busy["p50_ms"]),
                _ms(busy["p99_ms"]),
                f"{busy['cpu_us']:,.0f}",
                f"{quiet['req_s']:,.0f}",
                _ms(quiet["p50_ms"]),
                _ms(quiet["p99_ms"]),
                f"{found['pss_mib']:,.0f}",
                f"{found['start_s']:.2f}",
            ]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def _goals(results: dict[str, Any]) -> list[str]:
    lines = ["| ours against | figure | project | measured | goal | |", "|---|---|---|--:|--:|---|"]
    for goal, project, figure, met in ratios(results):
        if figure is None:
            continue
        limit = f"{'≥' if goal.least else '≤'} {goal.limits[project]:g} ×"
        lines.append(
            f"| {_title(results, goal.peers)} | {_KINDS[goal.kind]} | {project} "
            f"| {_short(figure)} × | {limit} | {'met' if met else '**missed**'} |"
        )
    return [*lines, ""]


def _reading(results: dict[str, Any]) -> list[str]:
    rows = ratios(results)
    measured = [(goal, project, figure, met) for goal, project, figure, met in rows if figure]
    below = [row for row in measured if not row[3]]
    missing = [row for row in rows if row[2] is None]
    lines = [f"{len(measured) - len(below)} of {len(measured)} measured goals are met."]
    for goal, project, figure, _ in below:
        share = figure / goal.limits[project]
        far = f"{1 - share:.0%} short of" if goal.least else f"{share - 1:.0%} above"
        lines.append(
            f"- {project}, {_KINDS[goal.kind]} against {_title(results, goal.peers)}: "
            f"{_short(figure)} ×, {far} the goal of {goal.limits[project]:g} ×."
        )
    if missing:
        names = dict.fromkeys(f"{_title(results, goal.peers)} ({p})" for goal, p, *_ in missing)
        lines.append(f"- Not measured in this run: {', '.join(names)}.")
    errors = {(run["server"], run["project"]) for run in results["runs"] if run["error"]}
    lines += [
        f"- {results['servers'][server]['title']} failed in a round of {project}; the medians are "
        "of the others."
        for server, project in sorted(errors)
    ]
    return [lines[0], "", *lines[1:], *([""] if lines[1:] else [])]


def _weight(results: dict[str, Any]) -> list[str]:
    if results["first"] is None:
        return ["Not measured in this run.", ""]
    lines = ["| | measured | goal | |", "|---|--:|--:|---|"]
    for name, (title, unit, limit) in WEIGHT.items():
        value = results["first"][name]
        digits = 0 if unit == "MiB" else 2
        verdict = "met" if value <= limit else "**missed**"
        lines.append(
            f"| {title} | {value:.{digits}f} {unit} | ≤ {limit:.{digits}f} {unit} | {verdict} |"
        )
    return [*lines, ""]


def _setups(results: dict[str, Any]) -> list[str]:
    lines = ["| server | configuration | versions |", "|---|---|---|"]
    for server in results["servers"].values():
        told = ", ".join(f"{name} {version}" for name, version in server["versions"].items())
        lines.append(f"| {server['title']} | {server['setup']} | {told} |")
    return [*lines, ""]


def _failed(results: dict[str, Any]) -> str:
    counts: dict[str, float] = {}
    for run in results["runs"]:
        for load in (run.get("load") or {}).values():
            counts[run["server"]] = counts.get(run["server"], 0) + load["failed"]
    told = [
        f"{results['servers'][name]['title']} {count:.0f}"
        for name, count in counts.items()
        if count
    ]
    return ", ".join(told) or "none"


def _title(results: dict[str, Any], peers: Iterable[str]) -> str:
    titles = [results["servers"][name]["title"] for name in peers if name in results["servers"]]
    if len(titles) > 1:
        return f"{titles[0].partition(',')[0]}, the better way"
    return titles[0] if titles else ", ".join(peers)


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
