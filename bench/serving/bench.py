"""Timonel's server beside its peers: `python bench/serving/bench.py`; `--help` has the options.

In every round each server is started, asked for the label of every payload, loaded by wrk with one
and with 32 connections, asked again, and stopped; the servers take turns, beginning with another
one in each round. Results go to `results.json` beside this file, and `--page` writes
docs/performance.md from it. `--quick` only shows that everything works: a second each, no file.
"""

# ruff: noqa: E402 (this folder's bench.py would hide the package of that name)
import argparse
import contextlib
import datetime
import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).absolute().parents[2]
sys.path[0] = str(ROOT)

from bench.serving import environments, first_answer, report
from bench.serving.home import PROJECTS, Task, prepare
from bench.serving.load import ask, wrk
from bench.serving.processes import Tree
from bench.serving.servers import SERVERS, Place, Server

RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs" / "performance.md"
PATIENCE = 120.0  # seconds until the first right answer


def main() -> None:
    """Measure what was asked for, or write the page."""
    options = _options()
    if options.page:
        PAGE.write_text(report.page(json.loads(RESULTS.read_text())))
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with contextlib.ExitStack() as stack:
        work = options.work
        if work is None:
            made = tempfile.TemporaryDirectory(prefix="timonel-bench-", ignore_cleanup_errors=True)
            work = Path(stack.enter_context(made))
        work.mkdir(parents=True, exist_ok=True)
        results = measure(options, work.absolute())
    sys.stdout.write(report.summary(results))
    if not options.quick:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if any(run["error"] for run in results["runs"]):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])

    def listed(known: Any) -> Any:
        def parse(text: str) -> list[str]:
            names = text.split(",")
            if unknown := set(names) - set(known):
                raise argparse.ArgumentTypeError(
                    f"expected some of {','.join(known)}, got {','.join(sorted(unknown))}"
                )
            return [name for name in known if name in names]

        return parse

    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    add = parser.add_argument
    add("--peers", type=listed(SERVERS), default=list(SERVERS), help="which servers, with commas")
    add("--projects", type=listed(PROJECTS), default=list(PROJECTS), help="which, with commas")
    add("--seconds", type=float, default=8, help="of each load (default: 8)")
    add("--rounds", type=int, default=3, help="of which the medians are taken (default: 3)")
    add("--connections", type=numbers, default=[1, 32], help="default: 1,32")
    add("--quick", action="store_true", help="one round of a second each; writes no file")
    add("--envs", type=Path, default=Path.home() / ".cache" / "timonel-bench", help="environments")
    add("--work", type=Path, help="keep the homes and models here (default: a temporary folder)")
    add("--out", type=Path, default=RESULTS, help="where results go")
    add("--page", action="store_true", help="write docs/performance.md from the results, and end")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All rounds of all servers; see `report` for what is in it."""
    tasks = [prepare(project, work) for project in options.projects]
    pythons: dict[str, Path | str] = {}
    for name in options.peers:
        environment = SERVERS[name].environment
        if environment is not None and environment not in pythons:
            try:
                pythons[environment] = environments.ready(environment, options.envs.absolute())
            except RuntimeError as error:
                pythons[environment] = str(error)
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "machine": _machine(),
        "settings": {
            "seconds": options.seconds,
            "rounds": options.rounds,
            "connections": options.connections,
            "payloads": len(tasks[0].rows),
        },
        "servers": {
            name: {
                "title": SERVERS[name].title,
                "setup": SERVERS[name].setup,
                "versions": _versions(SERVERS[name], pythons),
            }
            for name in options.peers
        },
        "first": (
            first_answer.measured(tasks[0], work, rounds=options.rounds + 2)
            if "timonel" in options.peers
            else None
        ),
        "runs": [],
    }
    for number in range(options.rounds):
        turn = number % len(options.peers)
        for task in tasks:
            for name in [*options.peers[turn:], *options.peers[:turn]]:
                server = SERVERS[name]
                if task.project not in server.projects:
                    continue
                run = {"round": number, "project": task.project, "server": name, "error": None}
                python = pythons[server.environment] if server.environment else sys.executable
                try:
                    if isinstance(python, str) and server.environment:
                        raise RuntimeError(python)
                    run |= _run(server, task, Path(python), work / name, options)
                except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
                    run["error"] = f"{type(error).__name__}: {error}"
                results["runs"].append(run)
                sys.stderr.write(report.line(run) + "\n")
    return results


def _run(
    server: Server, task: Task, python: Path, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """One server's turn: start, check, load, check, stop."""
    folder = folder / task.project
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(task, python, folder, _ports())
    server.prepare(place)
    bodies = [server.payload(task.project, row) for row in task.rows]
    payloads = folder / "payloads"
    payloads.write_bytes(b"\n".join(bodies) + b"\n")
    tree = Tree(server.command(place), place.variables(), folder / "log", folder)
    try:
        start = first_answer.wait(tree, _right(server, task, place.port, bodies[:1]), PATIENCE)
        right = _right(server, task, place.port, bodies)
        right()
        _load(server, place, payloads, max(options.connections), min(2.0, options.seconds))
        loads = {}
        for connections in options.connections:
            used, begun = tree.cpu(), time.perf_counter()
            found = _load(server, place, payloads, connections, options.seconds)
            # Requests of the last moment are answered after wrk stopped counting.
            elapsed = time.perf_counter() - begun
            spent = tree.cpu() - used
            found["cpu_us"] = spent / max(1.0, found["requests"]) * 1e6
            found["cores"] = spent / elapsed
            loads[str(connections)] = found
        memory = tree.memory()
        right()
    except Exception as error:
        raise RuntimeError(f"{error}\n{tree.said()}") from error
    finally:
        tree.stop()
    workers = list(memory.values())[1:] or list(memory.values())
    return {
        "start_s": start,
        "pss_mib": sum(memory.values()),
        "processes": len(memory),
        "largest_child_mib": max(workers),
        "load": loads,
    }


def _load(
    server: Server, place: Place, payloads: Path, connections: int, seconds: float
) -> dict[str, float]:
    found: dict[str, float] = wrk(
        place.port, server.path, payloads, connections=connections, seconds=seconds
    )
    return found


def _right(server: Server, task: Task, port: int, bodies: list[bytes]) -> Any:
    """A check that the answers to the first bodies are those that are expected."""

    def check() -> None:
        replies = ask(port, server.path, bodies)
        if not server.checked:
            return
        for row, (reply, label) in enumerate(zip(replies, task.labels, strict=False)):
            found = server.label(task.project, reply)
            if found != label:
                raise ValueError(f"Payload {row}: expected {label}, got {found}: {reply}")

    return check


def _ports() -> tuple[int, int, int]:
    """Three ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        first, second, third = (one.getsockname()[1] for one in sockets)
    return first, second, third


def _versions(server: Server, pythons: dict[str, Path | str]) -> dict[str, str]:
    """The packages that matter to a server, as they are in its environment."""
    python = pythons[server.environment] if server.environment else Path(sys.executable)
    if isinstance(python, str):
        return {}
    every = environments.versions(python)
    return {name: every[name] for name in server.packages if name in every}


def _machine() -> dict[str, Any]:
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "cpu": model[0] if model else platform.machine(),
        "memory_gib": round(pages * page / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wrk": _said("wrk", "-v").partition("[")[0].strip(),
        "busy": round(os.getloadavg()[0], 1),
        "grouping": _grouping(),
    }


def _grouping() -> str:
    """Whether the kernel shares cores between sessions rather than processes."""
    switch = Path("/proc/sys/kernel/sched_autogroup_enabled")
    return "on" if switch.exists() and switch.read_text().strip() == "1" else "off"


def _said(*command: str) -> str:
    """What a command prints, "" when there is no such command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    main()
