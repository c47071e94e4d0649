"""What Timonel weighs: the time to its first right answer, its memory, its import, its help.

`python bench/serving/first_answer.py` prints it; the bench records the same.
"""

import http.client
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).absolute().parents[2])

from bench.serving.home import Task, home_of, prepare
from bench.serving.load import ask
from bench.serving.processes import Tree

__all__ = ["measured", "wait"]

_PAUSE = 0.005  # seconds between two questions to a server that starts


def wait(tree: Tree, right: Callable[[], None], patience: float) -> float:
    """Seconds from a server's start until `right` no longer raises.

    Raises:
        RuntimeError: the server ended, or its time was up; with the last refusal.
    """
    while True:
        try:
            right()
            return time.perf_counter() - tree.started
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
            if not tree.running:
                raise RuntimeError("it ended before it answered") from error
            if time.perf_counter() - tree.started > patience:
                raise RuntimeError(f"no right answer in {patience:.0f} s: {error}") from error
            time.sleep(_PAUSE)


def measured(task: Task, work: Path, rounds: int = 5) -> dict[str, Any]:
    """Medians: `first_answer_s`, `worker_mib` (largest, PSS), `import_s`, `help_s`.

    The import's time is that of a process which does it less that of one which does nothing.
    """
    from bench.serving.servers import SERVERS, Place

    server = SERVERS["timonel"]
    body = server.payload(task.project, task.rows[0])
    starts, sizes = [], []
    folder = work / "first"
    folder.mkdir(exist_ok=True)
    for _ in range(rounds):
        place = Place(task, Path(sys.executable), folder, (_free_port(), 0, 0))

        def right(port: int = place.port) -> None:
            (reply,) = ask(port, server.path, [body])
            if server.label(task.project, reply) != task.labels[0]:
                raise ValueError(f"expected {task.labels[0]}, got {reply}")

        tree = Tree(server.command(place), place.variables(), folder / "log", folder)
        try:
            starts.append(wait(tree, right, 60.0))
            time.sleep(1.0)  # until the second worker answers too
            sizes.append(max(list(tree.memory().values())[1:]))
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{tree.said()}") from error
        finally:
            tree.stop()
    nothing = _seconds(rounds, task, "-c", "pass")
    return {
        "first_answer_s": statistics.median(starts),
        "worker_mib": statistics.median(sizes),
        "import_s": _seconds(rounds, task, "-c", "import timonel") - nothing,
        "help_s": _seconds(rounds, task, "-m", "timonel", "--help"),
        "rounds": rounds,
    }


def _seconds(rounds: int, task: Task, *words: str) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        command = [sys.executable, *words]
        subprocess.run(command, env=home_of(task.home), capture_output=True, check=True)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # so that servers are stopped first
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="timonel-bench-") as temporary:
        task = prepare("penguins", Path(temporary))
        sys.stdout.write(json.dumps(measured(task, Path(temporary)), indent=1) + "\n")
