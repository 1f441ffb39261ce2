"""Every command and every statement of README, about random histories at random times, on every database."""

import os
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from sync.store.database import Database
from tests.cli.program import Program
from tests.questions import readme
from tests.questions.asking import Inquiry, ask_all
from tests.questions.stories import TALES, Tale, record, wipe
from tests.questions.typist import Typist
from tests.questions.world import world_of
from tests.statements import STATEMENTS, statement_of

COMMON = settings(deadline=None, database=None, print_blob=False, suppress_health_check=list(HealthCheck))
LONG = int(os.environ.get("EHPC_TEST_STORIES", "0"))
"""Set by hand to ask about so many new stories on each database, and shrink the first one that is answered wrongly."""


def judge(tale: Tale, database: Database) -> None:
    """Record the tale and ask everything about it."""
    wipe(database)
    world = world_of(record(tale, database))
    if world.lives:
        with database.reading() as connection:
            problems = ask_all(world, connection, Random(tale.seed))
        assert not problems, "\n\n".join(problems)


def judge_program(tale: Tale, database: Database, program: Program) -> None:
    """Record the tale and ask the program about it, one question of each kind."""
    wipe(database)
    world = world_of(record(tale, database))
    if world.lives:
        with database.reading() as connection:
            inquiry = Inquiry(world, connection, Random(tale.seed))
        problems = Typist(program, world, inquiry, Random(tale.seed)).ask_all()
        assert not problems, "\n\n".join(problems)


@settings(COMMON, max_examples=8, derandomize=True, phases=[Phase.generate])
@given(tale=TALES)
def test_every_question_is_answered_as_the_model_answers_it(history: Database, tale: Tale) -> None:
    judge(tale, history)


@settings(COMMON, max_examples=60, phases=[Phase.generate])
@given(tale=TALES)
@seed(20260303)
def test_every_question_about_more_histories_where_that_is_cheap(sqlite_history: Database, tale: Tale) -> None:
    judge(tale, sqlite_history)


@settings(COMMON, max_examples=5, derandomize=True, phases=[Phase.generate])
@given(tale=TALES)
def test_the_program_answers_what_the_model_answers(
    history: Database, database_url: str, program: Program, tale: Tale
) -> None:
    program.configure(database_url=database_url)
    judge_program(tale, history, program)


@pytest.mark.slow
@settings(COMMON, max_examples=40, phases=[Phase.generate])
@given(tale=TALES)
@seed(20260302)
def test_every_question_about_many_more_histories(history: Database, tale: Tale) -> None:
    judge(tale, history)


@pytest.mark.skipif(not LONG, reason="made by hand: set EHPC_TEST_STORIES")
@settings(COMMON, max_examples=LONG or 1, phases=[Phase.generate, Phase.shrink])
@given(tale=TALES)
def test_every_question_about_new_histories(history: Database, tale: Tale) -> None:
    judge(tale, history)


def test_every_statement_of_readme_is_asked() -> None:
    asked = [statement_of(words) for words in (*readme.STATEMENTS, readme.LONGEST)]
    assert sorted(asked) == sorted(STATEMENTS.values())
