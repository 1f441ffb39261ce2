"""A folder as the pages expect it: the recorded story as ehpc-images.db, and docs/ as in a checkout."""

import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.program import ask_process, environment_of
from tests.cli.story import file_of, record_story
from tests.conftest import Shelf
from tests.docs.pages import DOCS, blocks_of


@pytest.fixture
def folder(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    shutil.copy(file_of(shelf.url_of("sqlite", record_story)), tmp_path / "ehpc-images.db")
    (tmp_path / "docs").symlink_to(DOCS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def exported(folder: Path) -> Path:
    """The Parquet file that the pages' command writes."""
    lines = {block.code for page in ("duckdb.md", "dataframes.md") for block in blocks_of(page, "sh")}
    (line,) = (line for line in lines if line.startswith("ehpc-image-sync"))
    _, *arguments = shlex.split(line)
    answer = ask_process(environment_of(folder), *arguments, folder=folder)
    assert answer.code == 0, answer.err
    return folder / arguments[-1]
