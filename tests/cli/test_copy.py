"""``db copy``: what it says, what it refuses, and that it never shows a password."""

from collections.abc import Iterator

import pytest

from sync.store.database import Database
from sync.store.lease import Lease
from sync.store.schema import lease, metadata
from tests.cli.program import Program
from tests.store.builders import contents_of

TABLES = [table.name for table in metadata.sorted_tables if table is not lease]


@pytest.fixture
def original(reader: Program) -> Iterator[Database]:
    """The history that the program is configured for."""
    opened = Database(f"sqlite:///{reader.folder / 'history.db'}")
    yield opened
    opened.close()


def test_a_copy_says_what_it_copied_and_what_to_do_next(reader: Program, original: Database) -> None:
    answer = reader.ask("db", "copy", "sqlite:///copy.db")
    assert answer.code == 0, answer.err
    assert answer.rows == [{"table": name, "rows": len(rows)} for name, rows in contents_of(original).items()]
    assert answer.sentence == (
        "next: set database_url to sqlite:///copy.db, with its password and options if it has any; "
        "sqlite:///history.db stays as it is"
    )


def test_on_a_terminal_a_table_and_the_next_step_are_shown(reader: Program) -> None:
    answer = reader.ask_on_terminal("db", "copy", "sqlite:///copy.db")
    heading, *lines, _, next_step = answer.out.splitlines()
    assert heading.split() == ["table", "rows"]
    assert [line.split()[0] for line in lines] == TABLES
    assert next_step.startswith("next: set database_url to sqlite:///copy.db")


def test_the_copy_answers_as_the_original(reader: Program, database_url: str) -> None:
    reader.ask("db", "copy", database_url)
    for question in (["images"], ["changes"], ["history", "--os-tag", "CentOS*"], ["runs"]):
        assert reader.rows(*question, "--database-url", database_url) == reader.rows(*question)


def test_a_password_is_never_shown(reader: Program, postgresql_url: str) -> None:
    with_password = Database(postgresql_url).engine.url.set(password="s3cret", host="127.0.0.1")
    url = with_password.render_as_string(hide_password=False)
    for answer in (
        reader.ask("db", "copy", url),
        reader.ask("db", "copy", url),
        reader.ask("db", "copy", "sqlite:///copy.db", "--database-url", url),
        reader.ask("db", "copy", url, "--database-url", url),
        reader.ask("db", "copy", with_password.set(port=1).render_as_string(hide_password=False)),
    ):
        assert answer.out or answer.err
        assert "s3cret" not in answer.out + answer.err


def test_a_second_copy_into_the_same_database_is_refused(reader: Program) -> None:
    reader.ask("db", "copy", "sqlite:///copy.db")
    answer = reader.ask("db", "copy", "sqlite:///copy.db")
    assert (answer.code, answer.out) == (2, "")
    assert "sqlite:///copy.db has a history already" in answer.sentence


def test_a_copy_during_a_run_says_who_makes_it(reader: Program, original: Database) -> None:
    run = Lease(original)
    run.take()
    answer = reader.ask("db", "copy", "sqlite:///copy.db")
    assert (answer.code, answer.out) == (4, "")
    assert f"another run is under way: {run.owner}" in answer.sentence
    run.release()


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("nonsense", 2, ": URL is not a database URL"),
        ("oracle://host/name", 2, "names 'oracle'; use sqlite, postgresql, mysql or mariadb"),
        ("sqlite://", 2, "names no file"),
        ("sqlite:///missing/copy.db", 1, "check that its folder exists"),
        ("sqlite:///history.db", 2, "is the configured database itself"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence(reader: Program, url: str, code: int, words: str) -> None:
    answer = reader.ask("db", "copy", url)
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.sentence


def test_without_a_history_there_is_nothing_to_copy(program: Program) -> None:
    answer = program.ask("db", "copy", "sqlite:///copy.db")
    assert answer.code == 2
    assert "there is no history" in answer.sentence
    assert not list(program.folder.glob("*.db"))
