"""What the files for installation name exists: keys, commands, options; and each file introduces itself."""

import re
from pathlib import Path

import click
import pytest

from sync.cli import cli
from sync.config import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, KEYS
from tests.deploy.sources import FILES, PROGRAM, name_of

each_file = pytest.mark.parametrize("path", FILES, ids=name_of)

PROSE = {"as", "do", "from", "is", "on", "or", "says", "shows", "without"}
"""What may follow the program's name where a sentence speaks of it; any other word there must be a command."""

CALL = re.compile(rf"(?<![\w./-])(?:/opt/{PROGRAM}/bin/)?{PROGRAM}[ \t]+(?!{PROGRAM})([a-z][a-z-]*)([^\n;|`&)>\"']*)")

Call = tuple[str, tuple[str, ...]]


def calls_in(path: Path) -> set[Call]:
    """Return each command that a file calls, with its options."""
    text = path.read_text("utf-8").replace('"$program"', PROGRAM)
    calls = {(word, tuple(re.findall(r"--[a-z-]+", rest))) for word, rest in CALL.findall(text) if word not in PROSE}
    for words in re.findall(r"^\s*args: \[(.*)\]$", text, re.MULTILINE):  # Kubernetes
        command, *options = words.split(", ")
        calls.add((command, tuple(options)))
    return calls


CALLS = sorted({(name_of(path), call) for path in FILES for call in calls_in(path)})


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command, by all their names."""
    return {name for option in command.params if isinstance(option, click.Option) for name in option.opts}


def test_the_calls_are_found() -> None:
    commands = {command for _, (command, _) in CALLS}
    assert {"daemon", "run", "status", "check", "accept-removals", "simulate", "plan", "runs", "demo"} <= commands
    assert ("cron.example", ("run", ("--if-due",))) in CALLS
    assert ("deploy/kubernetes/cronjob.yaml", ("run", ("--if-due",))) in CALLS


@pytest.mark.parametrize(("path", "call"), CALLS, ids=[f"{path} {call[0]} {' '.join(call[1])}" for path, call in CALLS])
def test_every_command_and_option_exists(path: str, call: Call) -> None:
    name, options = call
    assert name in cli.commands
    assert sorted(set(options) - options_of(cli.commands[name])) == []


@each_file
def test_every_variable_is_a_configuration_key(path: Path) -> None:
    names = set(re.findall(rf"{ENVIRONMENT_PREFIX}[A-Z_]*[A-Z]", path.read_text("utf-8")))
    known = {f"{ENVIRONMENT_PREFIX}{key.upper()}" for key in KEYS} | {CONFIG_VARIABLE}
    assert sorted(names - known) == []


@each_file
def test_it_begins_with_what_it_is_how_to_install_it_and_how_to_see_that_it_works(path: Path) -> None:
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#!")]
    head = "\n".join(lines[:12])
    assert lines[0].startswith("# ")
    assert re.search(r"^# (Install|Build)", head, re.MULTILINE)
    assert re.search(r"^# It works when:", head, re.MULTILINE)
