"""Calls go down the layers: the contract that pyproject.toml states and sync/__init__.py draws."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sync

CHECKOUT = Path(__file__).parents[1]
PURE = ("diff", "plan", "region", "render/__init__", "render/tables", "report", "moments", "ticks")


def modules_of(path: Path) -> set[str]:
    """Return the modules that a file imports, at the top or later."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_no_module_imports_upwards_or_sideways() -> None:
    # A process of its own: import-linter silences the loggers of the one it runs in.
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    linter = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert linter.returncode == 0, linter.stdout


def test_the_map_of_the_package_names_every_module() -> None:
    text = sync.__doc__ or ""
    parts = {path.stem for path in (CHECKOUT / "sync").glob("*.py")} - {"__init__"}
    parts |= {path.parent.name for path in (CHECKOUT / "sync").glob("*/__init__.py")}
    assert sorted(name for name in parts if name not in text) == []


@pytest.mark.parametrize("name", PURE)
def test_what_decides_touches_no_database_and_no_network(name: str) -> None:
    outside = {module.partition(".")[0] for module in modules_of(CHECKOUT / "sync" / f"{name}.py")}
    assert outside.isdisjoint({"sqlalchemy", "requests", "socket", "urllib3", "alembic", "sqlite3", "os", "time"})


def test_every_failure_is_caught_by_name_but_in_the_loop_that_must_survive_all() -> None:
    broad = {
        path.relative_to(CHECKOUT / "sync").as_posix()
        for path in (CHECKOUT / "sync").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "Exception")
    }
    assert broad == {"schedule.py"}
