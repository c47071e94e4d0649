"""Constant traffic from a process of its own, with every reply written down.

`python clients.py ADDRESS PATH ROW KEPT FRESH PAUSE FILE` asks until its input ends: over KEPT
connections that stay and FRESH that are opened for each request, PAUSE seconds apart. A line of
FILE is the times of sending and of the reply's end (seconds since 1970), the status (0: the
connection broke) and the version that answered, between tabs.
"""

import asyncio
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit


class Clients:
    """All of them, and what they were answered."""

    def __init__(self, address: str, path: str, row: str, pause: float) -> None:
        where = urlsplit(address)
        self.host, self.port = where.hostname or "", where.port or 0
        self.pause = pause
        self.replies: list[tuple[float, float, int, str]] = []
        self.stopping = asyncio.Event()
        head = f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
        self.request = f"{head}Content-Length: {len(row)}\r\n\r\n{row}".encode()

    async def ask(self, *, fresh: bool) -> None:
        """One client, until all stop."""
        writer: asyncio.StreamWriter | None = None
        while not self.stopping.is_set():
            sent, status, version, ends = time.time(), 0, "", True
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(self.host, self.port)
                writer.write(self.request)
                status, version, ends = await _reply(reader)
            except (OSError, EOFError, ValueError) as error:
                version = repr(error)
            self.replies.append((sent, time.time(), status, version))
            if writer is not None and (fresh or ends):
                writer.close()
                writer = None
            if self.pause:
                await asyncio.sleep(self.pause)
        if writer is not None:
            writer.close()

    async def run(self, kept: int, fresh: int) -> None:
        """Ask until the input ends."""
        tasks = [
            asyncio.create_task(self.ask(fresh=number >= kept)) for number in range(kept + fresh)
        ]
        await asyncio.to_thread(sys.stdin.read)
        self.stopping.set()
        await asyncio.gather(*tasks)


async def _reply(reader: asyncio.StreamReader) -> tuple[int, str, bool]:
    """Status, version, and whether the connection ends."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    await reader.readexactly(int(fields["content-length"]))
    closes = fields.get("connection") == "close"
    return int(head[0].split()[1]), fields.get("x-model-version", ""), closes


def main() -> None:
    """See the module."""
    address, path, row, kept, fresh, pause, file = sys.argv[1:]

    async def go() -> list[tuple[float, float, int, str]]:
        clients = Clients(address, path, row, float(pause))
        await clients.run(int(kept), int(fresh))
        return clients.replies

    replies = asyncio.run(go())
    lines = (f"{sent}\t{end}\t{status}\t{version}\n" for sent, end, status, version in replies)
    Path(file).write_text("".join(lines))


if __name__ == "__main__":
    main()
