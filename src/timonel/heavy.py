"""Heavy imports in a definition's file: found by reading it, before anything in it runs.

A serving process loads the definition. An import that stands at its top level, and not inside a
recipe, costs that process seconds and hundreds of megabytes.
"""

import ast
import importlib.util
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from timonel.errors import DefinitionError
from timonel.project import BUNDLED, HEAVY

__all__ = ["definition_file", "heavy_imports", "refuse_heavy_imports"]


def definition_file(name: str) -> Path | None:
    """The file that `load_project(name)` would load, or None when no file can be named."""
    if name in BUNDLED:
        return _origin(BUNDLED[name])
    path = Path(name)
    if name.endswith(".py") or path.is_file():
        return path if path.is_file() else None
    for entry in entry_points(group="timonel.projects"):
        if entry.name == name:
            return _origin(entry.module)
    return None


def heavy_imports(source: str, filename: str = "<definition>") -> list[tuple[int, str]]:
    """Line and module of each heavy import that runs when the file is loaded, in their order.

    Imports inside functions, and those for type checkers alone, do not run then.

    Raises:
        DefinitionError: the text is no Python, naming the line.
    """
    try:
        tree = ast.parse(source, filename)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", None) or str(error)
        raise DefinitionError(f"{filename}, line {line}: expected Python, got: {reason}.") from None
    return [
        (statement.lineno, module)
        for statement in _loaded(tree.body)
        for module in _modules(statement)
        if module.partition(".")[0] in HEAVY
    ]


def refuse_heavy_imports(path: Path) -> None:
    """Raise DefinitionError, with the first line, when loading this file would import heavily.

    Also when it cannot be read, or is no Python.
    """
    try:
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DefinitionError(f"{path}: expected a Python file, got: {error}.") from None
    if found := heavy_imports(source, str(path)):
        line, module = found[0]
        others = "".join(f", {other} in line {at}" for at, other in found[1:])
        raise DefinitionError(
            f"{path}, line {line}: expected only light imports at the top level, got "
            f"{module}{others}.",
            remedy="Move the import into the function that uses it, such as the recipe: serving "
            "loads this file, and must not wait for training packages.",
        )


def _origin(module: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin else None


def _loaded(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is loaded, those in blocks and classes included."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
        if isinstance(statement, ast.If) and _is_type_checking(statement.test):
            blocks[0] = []
        parts = [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]
        for block in (*blocks, *(part.body for part in parts)):
            yield from _loaded(block)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _modules(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
        return [statement.module]
    return []
