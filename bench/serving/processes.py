"""A server's processes, wherever they went: their CPU, their memory, their end."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Tree"]

TICK = os.sysconf("SC_CLK_TCK")
_MARK = "BENCH_MARK"


class Tree:
    """A command in a session of its own, with all that it starts.

    Processes are found by parents, by session and by a mark in their environment, since servers
    detach some of theirs. Output goes to `log`.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path
    ) -> None:
        self._mark = f"{_MARK}={uuid.uuid4()}"
        self._log = log
        name, _, value = self._mark.partition("=")
        self.started = time.perf_counter()
        with log.open("wb") as output:
            self._root = subprocess.Popen(
                command,
                env=dict(environment) | {name: value},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the command itself has not ended."""
        return self._root.poll() is None

    def said(self, lines: int = 12) -> str:
        """The last lines of its output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def members(self) -> list[int]:
        """The ids of its living processes, the command's first."""
        parents: dict[int, int] = {}
        found = {self._root.pid} if self.running else set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            fields = _stat(entry)
            if fields is None or fields[0] == "Z":
                continue
            pid = int(entry.name)
            parents[pid] = int(fields[1])
            if int(fields[3]) == self._root.pid or self._marked(entry):
                found.add(pid)
        grown = True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            found |= more
            grown = bool(more)
        return sorted(found, key=lambda pid: (pid != self._root.pid, pid))

    def cpu(self) -> float:
        """Seconds of CPU, user and system, that its processes and those they have buried used."""
        ticks = 0
        for pid in self.members():
            fields = _stat(Path(f"/proc/{pid}"))
            if fields is not None:
                ticks += sum(int(value) for value in fields[11:15])
        return ticks / TICK

    def memory(self) -> dict[int, float]:
        """MiB of each process (PSS: what is shared is divided among those that share it)."""
        found = {}
        for pid in self.members():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:  # it ended meanwhile
                continue
            sizes = [line.split()[1] for line in text.splitlines() if line.startswith("Pss:")]
            if sizes:
                found[pid] = int(sizes[0]) / 1024
        return found

    def stop(self, patience: float = 10.0) -> None:
        """Ask the command to end; after `patience` seconds, kill what is left."""
        members = self.members()
        if self.running:
            self._root.terminate()
        deadline = time.monotonic() + patience
        while self.running and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in {*members, *self.members()}:
            if pid != self._root.pid and self._marked(Path(f"/proc/{pid}")):
                _kill(pid)
        for pid in self.members():
            _kill(pid)
        self._root.wait()

    def _marked(self, entry: Path) -> bool:
        try:
            return self._mark.encode() in (entry / "environ").read_bytes()
        except OSError:  # it ended, or is not ours
            return False


def _stat(entry: Path) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on, or None if the process ended."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
