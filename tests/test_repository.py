"""The repository's own promises: a lock that can be trusted, and files that name no machine."""

import ast
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = ("run.lock", "dev.lock")

# Written in pieces, since this file is looked at too.
FOREIGN = {
    "a package index": re.compile(
        r"pypi\.org/" + r"simple|files\.python" + r"hosted\.org|registry\.npm" + r"js\.org"
    ),
    "an index option": re.compile(r"--(extra-)?index" + r"-url[ =]\S*[/:]|--find" + r"-links"),
    "a path of one machine": re.compile(
        r"(?<![\w.])/(root|home/\w+|Users/\w+|work/\w+|opt/(pypi|wheels))" + r"/"
    ),
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The text files that git keeps."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    files = [ROOT / name for name in names if (ROOT / name).is_file()]
    return [file for file in files if b"\0" not in file.read_bytes()[:8192]]


def pins(lock: str) -> dict[str, str]:
    """Name and version of every requirement of a lock."""
    text = (ROOT / "requirements" / lock).read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def declared(project: dict[str, Any], *extras: str) -> list[Requirement]:
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def imported(file: Path) -> Iterator[str]:
    """The top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def targets() -> dict[str, str]:
    """Name and description of every command of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", text, re.MULTILINE))


def test_no_file_names_an_index_or_a_machine(tracked: list[Path]) -> None:
    offences = [
        f"{file.relative_to(ROOT)}:{number}: {what}"
        for file in tracked
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        for what, pattern in FOREIGN.items()
        if pattern.search(line)
    ]
    assert offences == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_of_a_lock_has_a_hash(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    requirements = re.split(r"\n(?=\S)", text.replace("\\\n", " "))
    named = [line for line in requirements if not line.startswith("#") and line.strip()]
    assert len(named) > 50
    assert [line[:60] for line in named if not re.match(r"[\w.-]+==", line)] == []
    assert [line[:60] for line in named if not re.search(r"--hash=sha256:[0-9a-f]{64}", line)] == []


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("run.lock", ["train"]), ("dev.lock", ["train", "redis", "notebooks", "dev"])],
)
def test_a_lock_holds_what_is_declared(
    project: dict[str, Any], lock: str, extras: list[str]
) -> None:
    locked = pins(lock)
    wrong = [
        f"{requirement}: {lock} has {locked.get(canonicalize_name(requirement.name))}"
        for requirement in declared(project, *extras)
        if not (version := locked.get(canonicalize_name(requirement.name)))
        or not requirement.specifier.contains(version)
    ]
    assert wrong == []


def test_the_two_locks_agree() -> None:
    run, dev = (pins(lock) for lock in LOCKS)
    assert {name: version for name, version in run.items() if dev.get(name) != version} == {}


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_brings_torch(lock: str) -> None:
    assert "torch" not in pins(lock)


def test_every_dependency_says_which_part_needs_it(project: dict[str, Any]) -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    every = declared(project, *project["optional-dependencies"])
    commented = [line for line in lines if re.match(r'    "[\w.\[\]-]+>=[^"]+", +# \w+', line)]
    assert len(commented) == len(every)


def test_every_package_that_the_library_imports_is_declared(project: dict[str, Any]) -> None:
    parts = {"mlflow": ["mlflow"], "pydantic_core": ["pydantic"]}
    distributions = {**packages_distributions(), **parts}
    wanted = {
        canonicalize_name(distributions.get(name, [name])[0])
        for file in (ROOT / "src").rglob("*.py")
        for name in imported(file)
        if name not in sys.stdlib_module_names and name != "timonel"
    }
    known = declared(project, "train", "redis", "torch")
    assert wanted - {canonicalize_name(requirement.name) for requirement in known} == set()


def test_every_upper_bound_links_its_reason(project: dict[str, Any]) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in declared(project, *project["optional-dependencies"]):
        operators = {specifier.operator for specifier in requirement.specifier}
        if operators & {"<", "<=", "==", "~="}:
            assert re.search(rf'"{requirement.name}[^"]*", +#.*https://', text), requirement


def test_the_changelog_knows_this_version(project: dict[str, Any]) -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert Version(project["version"]) in [Version(name) for name in headings if name[0].isdigit()]


def test_make_alone_lists_every_command() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    missing = [name for name, words in targets().items() if f"make {name}" not in shown + words]
    assert missing == []
    assert {"install", "up", "test", "lint", "lock"} <= targets().keys()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_command_that_a_page_names_exists(page: str) -> None:
    path = ROOT / page
    if not path.exists():
        pytest.skip(f"there is no {page} yet")
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z-]+)", path.read_text(), re.MULTILINE))
    assert named - targets().keys() == set()


@pytest.mark.soak
def test_a_clean_clone_installs_once_with_one_command(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(["make", "install"], cwd=clone, check=True, timeout=900)
    command = [str(clone / ".venv" / "bin" / "timonel"), "--help"]
    assert "Usage" in subprocess.run(command, capture_output=True, text=True, check=True).stdout

    before = time.perf_counter()
    again = subprocess.run(
        ["make", "install"], cwd=clone, capture_output=True, text=True, check=True
    )
    assert "Nothing to be done" in again.stdout
    # Far above the few milliseconds it takes, far below any call of pip.
    assert time.perf_counter() - before < 1
