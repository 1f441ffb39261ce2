"""The chaos script on both databases that it knows, with fixed seeds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import UNAVAILABLE
from tests.conftest import _unavailable

CHECKOUT = Path(__file__).parents[2]
LIMIT_S = 240  # four times what it takes: a hang must not look like a slow machine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("database", "seed"), [("sqlite", 3), ("postgresql", 7)])
def test_after_chaos_the_history_is_the_catalogues(database: str, seed: int) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--database", database, "--seed", str(seed)]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False, text=True, timeout=LIMIT_S)
    if ended.returncode == UNAVAILABLE:
        _unavailable(ended.stdout)
    assert ended.returncode == 0, f"{ended.stdout}{ended.stderr}"
