"""Where options may stand, which source of configuration wins, and what help says."""

from collections.abc import Iterator

import click
import pytest

from sync.cli import cli
from sync.simulator.server import Simulator
from tests.cli.program import Program


def commands_of(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands_of(command, *path, name)


COMMANDS = list(commands_of(cli))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_and_option_explains_itself(
    program: Program, path: tuple[str, ...], command: click.Command
) -> None:
    answer = program.ask(*path, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert command.help
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


@pytest.mark.parametrize("columns", [80, 120])
def test_the_lists_of_commands_cut_no_sentence(program: Program, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for path in ((), ("db",)):
        text = program.ask(*path, "--help").out
        assert "..." not in text.partition("Commands:")[2]


def test_the_version_is_told(program: Program) -> None:
    answer = program.ask("--version")
    assert (answer.code, answer.out.split(", version ")[0]) == (0, "ehpc-image-sync")


def test_options_may_stand_before_and_after_the_command(reader: Program) -> None:
    reader.configure(database_url="sqlite:///nowhere.db")
    after = reader.ask("runs", "--database-url", "sqlite:///history.db")
    before = reader.ask("--database-url", "sqlite:///history.db", "runs")
    assert after.code == before.code == 0
    assert after.rows == before.rows
    assert len(after.rows) == 4


def test_an_option_after_the_command_wins(reader: Program) -> None:
    answer = reader.ask("--database-url", "sqlite:///nowhere.db", "runs", "--database-url", "sqlite:///history.db")
    assert len(answer.rows) == 4


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    program: Program, simulator: Simulator
) -> None:
    program.write_configuration('regions = ["cn-beijing"]\ninstance_types = ["ecs.c7.large"]\n')
    program.forget("regions")
    assert program.ask("plan").rows[0]["region_id"] == "cn-beijing"
    program.configure(regions="cn-hangzhou")
    assert program.ask("plan").rows[0]["region_id"] == "cn-hangzhou"
    (row,) = program.ask("plan", "--set", "regions=cn-beijing").rows
    assert (row["region_id"], row["targets"]) == ("cn-beijing", 1)


def test_a_configuration_file_can_be_named_by_option_and_variable(program: Program, simulator: Simulator) -> None:
    (program.folder / "other.toml").write_text('all_types_target = true\ninstance_types = ["ecs.c7.large"]\n')
    asked = ("plan", "--region", "cn-beijing")
    assert program.ask("--config", "other.toml", *asked).rows[0]["targets"] == 2
    program.configure(config="other.toml")
    assert program.ask(*asked).rows[0]["targets"] == 2


def test_plan_counts_targets_calls_and_seconds(program: Program, simulator: Simulator) -> None:
    answer = program.ask("plan", "--set", "calls_per_second=2")
    assert [(row["region_id"], row["targets"], row["calls"], row["shortest_s"]) for row in answer.rows] == [
        ("cn-beijing", 1, 2, 1.0),
        ("cn-hangzhou", 4, 5, 2.5),
    ]
    table = program.ask_on_terminal("plan", "--set", "calls_per_second=2").out
    assert table.startswith("7 calls in 2 regions; a run takes at least 2.5 s")
    assert list(program.folder.iterdir()) == []


def test_plan_asks_no_images(program: Program, simulator: Simulator) -> None:
    assert program.ask("plan").code == 0
    assert simulator.call_count(action="ListImages") == 0


def test_a_plan_without_discovery_is_partial(program: Program, simulator: Simulator) -> None:
    simulator.deny("ehpc:ListAvailableEcsTypes")
    answer = program.ask("plan")
    assert answer.code == 3
    assert all("ehpc:ListAvailableEcsTypes" in row["error"] for row in answer.rows)


def test_upgrade_makes_the_tables_and_can_be_repeated(program: Program) -> None:
    program.configure(database_url="sqlite:///history.db")
    for _ in range(2):
        answer = program.ask("db", "upgrade")
        assert (answer.code, answer.err) == (0, "")
        assert "has the tables of this version (schema " in answer.out
