"""The demo: what it promises in README is what it tells, and what it offers to try works."""

import re
import shlex
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync.demo import STORY, play
from tests.cli.program import CHECKOUT, Program


@dataclass(frozen=True, slots=True)
class Played:
    """A demo that was played: its file and what it told."""

    file: Path
    text: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One real demo; tests only read its file."""
    file = tmp_path_factory.mktemp("demo") / "ehpc-demo.db"
    told: list[str] = []
    play(str(file), told.append)
    return Played(file, "\n".join(told))


def statuses_of(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [row[0] for row in connection.execute("SELECT status FROM sync_runs ORDER BY run_id")]


def test_it_makes_a_run_per_chapter_with_a_partial_and_a_held_one(demo: Played) -> None:
    statuses = statuses_of(demo.file)
    assert len(statuses) == len(STORY)
    assert statuses == ["ok", "ok", "ok", "ok", "partial", "ok", "held", "ok"]


def test_the_partial_run_leaves_gaps_that_the_next_one_closes(demo: Played) -> None:
    with closing(sqlite3.connect(demo.file)) as connection:
        gaps = connection.execute("SELECT DISTINCT region_id, gap_to IS NULL FROM observation_gaps").fetchall()
    assert gaps == [("cn-shanghai", 0)]


def test_the_held_removals_leave_no_trace(demo: Played) -> None:
    with closing(sqlite3.connect(demo.file)) as connection:
        query = "SELECT count(*) FROM image_changes WHERE region_id = 'ap-southeast-1' AND kind = 'removed'"
        assert connection.execute(query).fetchone() == (0,)


def test_readme_shows_what_the_demo_tells(demo: Played) -> None:
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    sample = readme.partition("━━ 4 of 8")[2].partition("```")[0]
    told = demo.text.splitlines()
    shown = [line for line in f"━━ 4 of 8{sample}".splitlines() if line != "…"]
    untimed = [re.sub(r"\(.* s\)", "", line) for line in shown]
    assert [line for line in untimed if line not in {re.sub(r"\(.* s\)", "", entry) for entry in told}] == []


def test_each_command_that_it_ends_with_answers(demo: Played, program: Program) -> None:
    ending = demo.text.partition("Try:\n")[2].splitlines()
    commands = [line.strip() for line in ending if "--database-url" in line]
    assert [command.endswith(" web --open") for command in commands] == [False, False, False, True]
    for command in commands[:3]:
        _, _, arguments = command.partition("--database-url ")
        answer = program.ask(*shlex.split(f"--database-url {arguments}"))
        assert (answer.code, answer.err) == (0, "")
        assert answer.rows


def test_it_can_be_played_again_into_its_own_file(demo: Played, program: Program) -> None:
    (program.folder / "ehpc-demo.db").write_bytes(demo.file.read_bytes())
    answer = program.ask("demo")
    assert (answer.code, answer.err) == (0, "")
    assert len(statuses_of(program.folder / "ehpc-demo.db")) == len(STORY)


@pytest.mark.parametrize("content", ["letter", "history", "database"])
def test_it_refuses_a_file_that_is_not_its_own(program: Program, story_url: str, content: str) -> None:
    file = program.folder / "mine.db"
    if content == "letter":
        file.write_text("no database at all")
    elif content == "history":
        file.write_bytes(Path(story_url.removeprefix("sqlite:///")).read_bytes())
    else:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE mine (x)")
    before = file.read_bytes()
    answer = program.ask("demo", "--file", "mine.db")
    assert (answer.code, answer.out) == (2, "")
    assert "mine.db holds something else than an earlier demo; name another file with --file" in answer.sentence
    assert file.read_bytes() == before
