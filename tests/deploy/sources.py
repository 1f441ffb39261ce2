"""The files under test, and how tests run the tools that read them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "deploy"
CRONTAB = CHECKOUT / "cron.example"
FILES = sorted(path for path in [CRONTAB, *DEPLOY.rglob("*")] if path.is_file())
PROGRAM = "ehpc-image-sync"
TOOL_TIMEOUT_S = 60  # a tool that takes longer hangs, even on a busy machine

Object = dict[str, Any]


def name_of(path: Path) -> str:
    """Return the file's name as tests are called by it."""
    return str(path.relative_to(CHECKOUT))


def documents_of(path: Path) -> list[Object]:
    """Return the objects of a YAML file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def tool(name: str) -> str:
    """Return the path of a tool; the test is skipped where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def told_by(*command: str | Path) -> str:
    """Run a tool that must succeed and return all that it wrote."""
    ended = subprocess.run(
        [str(part) for part in command], capture_output=True, check=False, text=True, timeout=TOOL_TIMEOUT_S
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr
