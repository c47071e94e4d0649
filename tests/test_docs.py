"""The documentation is true: its commands run and answer as it says, its tables are complete.

A block of `console` is commands after `$ ` and what they print; of `python`, a script. One whose
first line is `# NAME.py` is kept under that name for the commands after it. What a block says
after its language is how it is treated: `soak` (by `make soak` alone) or `not run: WHY`.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import timonel.errors
from tests import homes
from timonel.cli.main import app as commands
from timonel.errors import TimonelError
from timonel.project import load_project
from timonel.settings import Settings
from timonel.signature import Signature
from timonel.stores.registry import Registry

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
    *sorted(f"docs/systems/{page.name}" for page in (ROOT / "docs" / "systems").glob("*.md")),
]
WRITTEN = [ROOT / page for page in (*PAGES, "CONTRIBUTING.md", "CHANGELOG.md")]

_BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SERVES = re.compile(r"(make up|timonel (up|serve))\b")
_PATIENCE = 30.0  # seconds for a server to begin, and for an answer to reach an export

# What differs from one time to the next, and words that stand for it.
_VARIES = (
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+\+\d{4}|Z)?"), "TIME"),
    (re.compile(r"@\d+"), "@N"),
    (re.compile(r"\d+\.\d+(e-?\d+)?"), "NUMBER"),
    (re.compile(r"\s+"), " "),
)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    manner: str
    text: str


class Shell:
    """Runs a page's blocks in a folder; its servers listen on a port that was free."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[str] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = str(found.getsockname()[1])
        own = ("TIMONEL_", "MLFLOW_", "ENVIRONMENT")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(own)} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TIMONEL_HOME": str(home),
            "TIMONEL_PORT": self._port,
            "TIMONEL_JOBS": "1",
            "TIMONEL_JOURNAL_ROTATE_SECONDS": "0.2",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, block: Block) -> None:
        if block.language == "python":
            self._script(block.text)
            return
        for command, said in _commands(block.text):
            adapted = re.sub(r"(127\.0\.0\.1:|--port )\d+", rf"\g<1>{self._port}", command)
            if _SERVES.match(adapted):
                self._serve(adapted, said)
                continue
            if command.startswith("rm "):  # a page says to stop the server before
                self.close()
            printed, deadline = self._printed(adapted), time.monotonic() + _PATIENCE
            # What was answered reaches an export a moment later.
            while (
                adapted.startswith(("timonel journal", "timonel accuracy", "timonel feedback"))
                and _missing(said, printed)
                and time.monotonic() < deadline
            ):
                time.sleep(0.2)
                printed = self._printed(adapted)
            assert not _missing(said, printed), f"$ {command}\n{printed}"

    def close(self) -> None:
        """End the server, if one was started."""
        if self._server:
            self._server.terminate()
            self._server.communicate(timeout=_PATIENCE)
            self._server = None

    def _script(self, text: str) -> None:
        named = re.match(r"# (\w+\.py)\n", text)
        file = self._folder / (named[1] if named else "block.py")
        file.write_text(text)
        done = self._process([sys.executable, file.name])
        printed, _ = done.communicate(timeout=120)
        assert done.returncode == 0, f"{text}\n{printed}"

    def _printed(self, command: str) -> str:
        printed, _ = self._process(["bash", "-c", command]).communicate(timeout=1200)
        return printed

    def _serve(self, command: str, said: Sequence[str]) -> None:
        self.close()
        words = "timonel up digits penguins" if command == "make up" else command
        self._server = self._process(words.split())
        printed = ""
        for line in self._server.stdout or ():
            printed += line
            if line.startswith("Documentation at"):
                break
        assert not _missing(said, printed), f"$ {command}\n{printed}"

    def _process(self, command: list[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    return [Block(found[1], found[2] or "", found[3]) for found in _BLOCK.finditer(text)]


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block with the lines that it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *said = part.splitlines()
        yield command, [line for line in said if line.strip()]


def _missing(said: Sequence[str], printed: str) -> list[str]:
    """The lines that were not printed, in any order; `…` stands for anything."""
    lines = [_masked(line) for line in printed.splitlines()]
    return [
        line
        for line in said
        if not any(re.fullmatch(_pattern(line), candidate) for candidate in lines)
    ]


def _pattern(line: str) -> str:
    return ".*".join(re.escape(piece) for piece in _masked(line).split("…"))


def _masked(line: str) -> str:
    for pattern, word in _VARIES:
        line = pattern.sub(word, line)
    return line.strip()


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which everything bundled has a version, as after the first minutes of `up`."""
    settings = Settings(home=tmp_path_factory.mktemp("docs") / "home")
    for number in (1, 2):
        penguins = load_project("penguins")
        homes.deploy(penguins, settings, number=number, champion=number == 1)
    network = load_project("digits").model("cnn").embedded
    assert network is not None
    content = (network / "model.onnx").read_bytes()
    binding = Signature.from_json((network / "signature.json").read_bytes()).binding
    for model in ("cnn", "clf"):
        homes.deploy_digits(settings, content, binding, model=model)
    for name in ("crimes", "titanic"):
        homes.deploy_embedded(load_project(name), settings)
    Registry.open(settings.registry_url)  # once here is sooner than once a page
    return settings.root


@pytest.fixture
def shell(trained: Path, tmp_path: Path) -> Iterator[Shell]:
    """A clone's folder, as far as the pages need it, with a trained home of its own."""
    if shutil.which("curl") is None:
        pytest.skip("the pages' requests are made with curl, which is not installed")
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("docs", "examples", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(trained, folder / ".timonel")
    shell = Shell(folder, folder / ".timonel")
    yield shell
    shell.close()


def _of(page: str, *, soak: bool) -> list[Block]:
    runnable = [block for block in blocks(page) if not block.manner.startswith("not run")]
    return [block for block in runnable if soak or block.manner != "soak"]


@pytest.mark.parametrize("page", [page for page in PAGES if _of(page, soak=False)])
def test_every_command_of_a_page_answers_as_the_page_says(page: str, shell: Shell) -> None:
    for block in _of(page, soak=False):
        shell.run(block)


@pytest.mark.soak
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.manner == "soak" for block in blocks(page))]
)
def test_the_long_commands_of_a_page_answer_as_the_page_says(
    page: str, shell: Shell, test_data: Path, tmp_path: Path
) -> None:
    empty = {"TIMONEL_HOME": str(tmp_path / "home"), "TIMONEL_JOBS": "0"}
    shell.environment |= {"TIMONEL_DATA": str(test_data)} | empty
    for block in _of(page, soak=True):
        if block.manner == "soak":
            shell.run(block)


@pytest.mark.parametrize("page", PAGES)
def test_a_block_is_run_or_says_why_not(page: str) -> None:
    odd = [
        block
        for block in blocks(page)
        if block.language not in ("console", "python")
        or not re.fullmatch(r"|soak|not run: \w.{10,}", block.manner)
    ]
    assert odd == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in map(_anchor, headings), target


def test_the_table_of_settings_is_that_of_the_code() -> None:
    expected = [
        f"| `TIMONEL_{name.upper()}` | {'–' if field.default is None else f'`{field.default}`'} "
        f"| {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    text = (ROOT / "docs" / "settings.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| `TIMONEL_")]
    assert table == expected, "\n".join(["docs/settings.md should have:", *expected])


def test_the_table_of_errors_is_that_of_the_code() -> None:
    every = [getattr(timonel.errors, name) for name in timonel.errors.__all__]
    expected = sorted(f"`{e.__name__}` | {e.exit_code} | {e.status}" for e in every)
    text = (ROOT / "docs" / "errors.md").read_text()
    assert sorted(re.findall(r"^\| (`\w+` \| \d+ \| \d+)", text, re.MULTILINE)) == expected
    assert all(issubclass(error, TimonelError) for error in every)


def test_every_command_and_route_is_described(trained: Path) -> None:
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    names = [command.name for command in commands.registered_commands]
    names += [
        f"{group.name} {command.name}"
        for group in commands.registered_groups
        for command in getattr(group.typer_instance, "registered_commands", ())
    ]
    assert [name for name in names if f"timonel {name}" not in text] == []
    project = load_project("penguins")
    app = homes.app_of([project], Settings(home=trained), at_root=False)
    paths = [path.replace("/penguins/", "/NAME/") for path in app.openapi()["paths"]]
    assert [path for path in paths if path.removeprefix("/NAME") not in text] == []


def test_the_picture_is_small_and_reads_in_the_dark() -> None:
    picture = (ROOT / "docs" / "images" / "timonel.svg").read_text()
    assert len(picture.encode()) <= 30_000
    assert "prefers-color-scheme: dark" in picture
