"""Processes of their own that do one thing at the same moment."""

import os
import subprocess
import sys

__all__ = ["together"]

_GO = """
import sys
print("ready", flush=True)
sys.stdin.readline()
"""


def together(prepare: str, act: str, count: int, *arguments: str) -> list[str]:
    """Run `prepare` in `count` processes, then `act` in all at once; what each printed last.

    The code finds its number in `sys.argv[1]` and `arguments` after it.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", prepare + _GO + act, str(number), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(count)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdin is not None
            assert child.stdout.readline() == "ready\n", child.communicate()[1]
        said = []
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            out, err = child.communicate(timeout=60)
            assert child.returncode == 0, err
            said.append(out.strip())
        return said
    finally:
        for child in children:
            child.kill()
            child.wait()
