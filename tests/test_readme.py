"""README says what is so: its SQL, commands, tables and sample output are taken by their word."""

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from sync.cli import cli
from sync.config import KEYS, Settings
from sync.errors import ExitCode
from sync.inventory import IMAGE_FIELDS
from sync.store.database import Database
from sync.store.schema import views
from tests.cli.story import record_story

TEXT = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
NOW, AS_OF, UNKNOWN, LIFE, CHANGES, OPEN_GAPS = STATEMENTS
START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)  # the story's withdrawal is then of 11:30, README asks about 12:00

Values = list[tuple[str, ...]]


def table_after(words: str) -> Iterator[list[str]]:
    """Yield the rows of README's table whose head begins with these words."""
    _, _, rest = TEXT.partition(f"\n| {words} |")
    assert rest, f"README has no table {words}"
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names_in(cell: str) -> list[str]:
    return [name.strip() for quoted in re.findall(r"`([^`]*)`", cell) for name in quoted.split(",")]


@pytest.fixture
def recorded(database: Database, database_url: str) -> Database:
    """The recorded story on each database; README's moment lies between its third and fourth run."""
    record_story(database_url, START)
    return database


def values_of(database: Database, statement: str) -> Values:
    """Return the rows of a statement as texts, times to the second."""
    with database.reading() as connection:
        rows = connection.exec_driver_sql(statement).all()
    return [tuple("" if value is None else str(value)[:19] for value in row) for row in rows]


def test_the_statements_give_what_their_headings_say(recorded: Database) -> None:
    assert [row[:2] for row in values_of(recorded, NOW)] == [
        ("RockyLinux_9.3_64", "m-rocky"),
        ("Ubuntu_22.04_64", "m-ubuntu"),
    ]
    assert values_of(recorded, AS_OF) == [
        ("RockyLinux_9.3_64", "m-rocky", "2026-11-22 10:30:00"),
        ("Ubuntu_22.04_64", "m-ubuntu", "2026-11-22 09:30:00"),
    ]
    assert [row[:4] for row in values_of(recorded, LIFE)] == [
        ("cn-beijing", "ecs.c7.large", "2026-11-22 09:30:00", ""),
        ("cn-hangzhou", "ecs.c7.large", "2026-11-22 09:30:00", "2026-11-22 11:30:00"),
        ("cn-hangzhou", "ecs.c7.xlarge", "2026-11-22 09:30:00", "2026-11-22 11:30:00"),
    ]
    kinds = [row[1] for row in values_of(recorded, CHANGES)]
    assert sorted(kinds) == sorted(
        ["added"] * 2 + ["changed"] + ["removed"] * 2 + ["type_added"] * 2 + ["type_retired"]
    )


def test_the_statements_about_coverage_tell_unknown_from_absent(recorded: Database) -> None:
    assert values_of(recorded, UNKNOWN) == []
    later = UNKNOWN.replace("12:00:00", "13:00:00")
    assert [row[4] for row in values_of(recorded, later.replace("cn-hangzhou", "cn-beijing"))] == [
        "InvalidParameter.Sc"
    ]
    new = values_of(recorded, UNKNOWN.replace("ecs.c7.large", "ecs.new.large"))
    assert [row[4] for row in new] == ["not observed yet"]
    assert sorted(row[:2] for row in values_of(recorded, OPEN_GAPS)) == [
        ("cn-beijing", "ecs.c7.large"),
        ("cn-hangzhou", "ecs.c1.large"),
        ("cn-hangzhou", "ecs.new.large"),
    ]


COMMANDS = sorted({match.strip() for match in re.findall(r"ehpc-image-sync ([a-z][^`\n]*)(?:`|\n)", TEXT)})


def resolve(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the arguments name and those that are left."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    return command, arguments


@pytest.mark.parametrize("line", [line for line in COMMANDS if " is " not in f" {line} "])
def test_the_commands_that_readme_names_can_be_called(line: str) -> None:
    command, arguments = resolve(shlex.split(line))
    with command.make_context(command.name, arguments) as context:
        assert context.args == []


def test_readme_has_commands_to_check() -> None:
    assert "images --instance-type ecs.c7.large --at yesterday" in COMMANDS
    assert "plan" in COMMANDS


def test_the_table_of_commands_has_all_of_them() -> None:
    listed = [cells[0].strip("`") for cells in table_after("command | what it does")]
    groups = {name for name, command in cli.commands.items() if isinstance(command, click.Group)}
    assert all(resolve(name.split())[0].help for name in listed)
    assert {name.split()[0] for name in listed} == set(cli.commands)
    assert {name.split()[0] for name in listed if " " in name} == groups


def test_the_options_that_the_table_of_commands_names_exist() -> None:
    for name, text in table_after("command | what it does"):
        command, _ = resolve(name.strip("`").split())
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", text)) <= known


def default_of(key: str) -> str:
    """Return a default as README writes it."""
    value = getattr(Settings(), key)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value) if value else "[]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_table_of_keys_equals_the_settings() -> None:
    documented: dict[str, str] = {}
    for keys, defaults, *_ in table_after("key | default | meaning"):
        documented |= zip(names_in(keys), names_in(defaults) or [defaults], strict=True)
    computed = {"regions": "none", "stale_after": "3 intervals of the schedule"}
    expected = {key: default_of(key) for key in KEYS} | computed
    assert documented == expected


def test_the_table_of_views_equals_the_schema() -> None:
    ten = ", ".join(("region_id", "instance_type", *IMAGE_FIELDS))
    documented = {
        name.strip("`"): names_in(columns.replace("the first ten", f"`{ten}`"))
        for name, _, columns in table_after("view | one row per | columns")
    }
    assert documented == {name: list(view.columns.keys()) for name, view in views.tables.items()}


def test_the_table_of_exit_codes_equals_the_program() -> None:
    assert [int(code) for code, _ in table_after("exit code | meaning")] == [code.value for code in ExitCode]


def test_the_files_that_readme_links_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    root = Path(__file__).parents[1]
    assert [link for link in links if not (root / link).exists()] == []
