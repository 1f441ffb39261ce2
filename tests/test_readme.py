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
from tests.conftest import DIALECTS, Shelf
from tests.statements import README, STATEMENTS, statement_of

START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)  # runs at 9:30, 10:30, 11:30 and 12:30; README asks about 12:00

Values = list[tuple[str, ...]]


def table_after(words: str) -> Iterator[list[str]]:
    """Yield the rows of README's table whose head begins with these words."""
    _, _, rest = README.partition(f"\n| {words} |")
    assert rest, f"README has no table {words}"
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names_in(cell: str) -> list[str]:
    return [name.strip() for quoted in re.findall(r"`([^`]*)`", cell) for name in quoted.split(",")]


def record(url: str) -> None:
    """Record the story; README's moment lies between its third and fourth run."""
    record_story(url, START)


@pytest.fixture(params=DIALECTS)
def recorded(request: pytest.FixtureRequest, shelf: Shelf) -> Iterator[Database]:
    """The story of README's day, to read; once for each database server."""
    opened = Database(shelf.url_of(request.param, record), is_read_only=True)
    yield opened
    opened.close()


def values_of(database: Database, statement: str) -> Values:
    """Return the rows of a statement as texts, times to the second."""
    with database.reading() as connection:
        rows = connection.exec_driver_sql(statement).all()
    return [
        tuple("" if value is None else str(+value if value is True else value)[:19] for value in row) for row in rows
    ]


AT = "2026-11-22 {}:30:00"

ANSWERS: dict[str, Values] = {
    "What is available now": [
        ("RockyLinux_9.3_64", "m-rocky", AT.format(10), ""),
        ("Ubuntu_22.04_64", "m-ubuntu", AT.format("09"), ""),
    ],
    "What was available at a time": [
        ("RockyLinux_9.3_64", "m-rocky", AT.format(10), "available"),
        ("Ubuntu_22.04_64", "m-ubuntu", AT.format("09"), "available"),
    ],
    "What was available in a whole region": [
        ("RockyLinux_9.3_64", "m-rocky", "Rocky Linux 9.3 64位", "3"),
        ("Ubuntu_22.04_64", "m-ubuntu", "Ubuntu 22.04 64位", "2"),
    ],
    "Was that known?": [
        ("ecs.c1.large", AT.format(11), "", "InvalidInstanceType"),
        ("ecs.new.large", "", "", "not observed yet"),
    ],
    "The life line of an image": [
        ("cn-beijing", "ecs.c7.large", AT.format("09"), "", "1"),
        ("cn-hangzhou", "ecs.c7.large", AT.format("09"), AT.format(11), "1"),
        ("cn-hangzhou", "ecs.c7.xlarge", AT.format("09"), AT.format(11), "1"),
    ],
    "The life line of an instance type": [
        (AT.format("09"), AT.format(11), "available", "CentOS_7.6_64", "m-centos"),
        (AT.format("09"), "", "available", "Ubuntu_22.04_64", "m-ubuntu"),
        (AT.format(10), "", "available", "RockyLinux_9.3_64", "m-rocky"),
    ],
    "The difference of a region": [
        ("added", "ecs.c7.large", "RockyLinux_9.3_64", "m-rocky", "Rocky Linux 9.3 64位"),
        ("removed", "ecs.c7.large", "CentOS_7.6_64", "m-centos", "CentOS 7.6 64位"),
        ("added", "ecs.c7.xlarge", "RockyLinux_9.3_64", "m-rocky", "Rocky Linux 9.3 64位"),
        ("removed", "ecs.c7.xlarge", "CentOS_7.6_64", "m-centos", "CentOS 7.6 64位"),
        ("removed", "ecs.g7.large", "Ubuntu_22.04_64", "m-ubuntu", "Ubuntu 22.04 64位"),
    ],
    "Which instance types support all": [],
    "Which images of a region vanished": [
        ("ecs.g7.large", "Ubuntu_22.04_64", "m-ubuntu", AT.format(10), AT.format(11))
    ],
    "How well was a region covered": [
        ("ecs.c1.large", "4", "3"),
        ("ecs.c7.large", "4", "4"),
        ("ecs.c7.xlarge", "4", "4"),
        ("ecs.g7.large", "2", "2"),
        ("ecs.hpc8.large", "2", "2"),
    ],
    "Between which two moments": [
        ("1", "added", "ecs.c7.large", "m-rocky", AT.format("09"), AT.format(10)),
        ("2", "added", "ecs.c7.xlarge", "m-rocky", AT.format("09"), AT.format(10)),
        ("3", "changed", "ecs.g7.large", "m-ubuntu", AT.format("09"), AT.format(10)),
        ("4", "removed", "ecs.c7.large", "m-centos", AT.format(10), AT.format(11)),
        ("5", "removed", "ecs.c7.xlarge", "m-centos", AT.format(10), AT.format(11)),
        ("6", "type_retired", "ecs.g7.large", "", AT.format(10), AT.format(11)),
        ("7", "type_added", "ecs.hpc8.large", "", AT.format(10), AT.format(11)),
        ("8", "type_added", "ecs.new.large", "", AT.format(11), AT.format(12)),
    ],
    "What changed since a script last asked": [
        ("1", "added", "cn-hangzhou", "ecs.c7.large", "m-rocky", "", AT.format(10)),
        ("2", "added", "cn-hangzhou", "ecs.c7.xlarge", "m-rocky", "", AT.format(10)),
        ("3", "changed", "cn-hangzhou", "ecs.g7.large", "m-ubuntu", AT.format("09"), AT.format(10)),
        ("4", "removed", "cn-hangzhou", "ecs.c7.large", "m-centos", AT.format(10), AT.format(11)),
        ("5", "removed", "cn-hangzhou", "ecs.c7.xlarge", "m-centos", AT.format(10), AT.format(11)),
        ("6", "type_retired", "cn-hangzhou", "ecs.g7.large", "", AT.format(10), AT.format(11)),
        ("7", "type_added", "cn-hangzhou", "ecs.hpc8.large", "", "", AT.format(11)),
        ("8", "type_added", "cn-hangzhou", "ecs.new.large", "", "", AT.format(12)),
    ],
    "Which targets are not known": [
        ("cn-beijing", "ecs.c7.large", AT.format(11), "InvalidParameter.Sc", "ListImages in cn-be"),
        ("cn-hangzhou", "ecs.c1.large", AT.format(11), "InvalidInstanceType", "ListImages in cn-ha"),
        ("cn-hangzhou", "ecs.new.large", AT.format(12), "InvalidInstanceType", "ListImages in cn-ha"),
    ],
}


@pytest.mark.parametrize("words", ANSWERS)
def test_a_statement_gives_what_its_heading_says(recorded: Database, words: str) -> None:
    assert values_of(recorded, statement_of(words)) == ANSWERS[words]


def test_what_was_not_observed_at_a_time_is_unknown(recorded: Database) -> None:
    later = statement_of("What was available at a time").replace("12:00:00", "12:00:01")
    (row,) = values_of(recorded, later.replace("cn-hangzhou", "cn-beijing"))
    assert row == ("CentOS_7.6_64", "m-centos", AT.format("09"), "unknown")


def test_the_longest_lived_images_come_first(recorded: Database) -> None:
    found = values_of(recorded, statement_of("Which images of a region live longest"))
    assert [row[:2] for row in found] == [
        ("Ubuntu_22.04_64", "m-ubuntu"),
        ("RockyLinux_9.3_64", "m-rocky"),
        ("CentOS_7.6_64", "m-centos"),
        ("Ubuntu_22.04_64", "m-ubuntu"),  # the one with the other name, which lived an hour
    ]


def test_every_statement_has_its_answer_here() -> None:
    told = [words for words in (*ANSWERS, "Which images of a region live longest") if statement_of(words)]
    assert len(told) == len(STATEMENTS)


COMMANDS = sorted({match.strip() for match in re.findall(r"ehpc-image-sync ([a-z][^`\n]*)(?:`|\n)", README)})


def resolve(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the arguments name and those that are left."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    return command, arguments


@pytest.mark.parametrize("line", [line for line in COMMANDS if " is " not in f" {line} "])
def test_the_commands_that_readme_names_can_be_called(line: str) -> None:
    command, arguments = resolve(shlex.split(line, comments=True))
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
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    root = Path(__file__).parents[1]
    assert [link for link in links if not (root / link).exists()] == []
