"""All pages of docs/: their links lead somewhere, and what they install and call exists."""

import re
import shlex
from importlib.metadata import metadata

import click
import pytest

from sync.cli import cli
from tests.docs.pages import DOCS, blocks_of, text_of

PAGES = sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_links_exist(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text_of(page))
    assert [link for link in links if not (DOCS / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_installs_is_what_the_tests_run_with(page: str) -> None:
    lines = [*re.findall(r"`pip install ([^`]+)`", text_of(page))]
    lines += [block.code.removeprefix("pip install") for block in blocks_of(page, "sh") if "pip install" in block.code]
    wanted = [re.split(r"\[", name)[0] for line in lines for name in shlex.split(line)]
    assert [name for name in wanted if name != "pytz" and not metadata(name)["Version"]] == []


OWN = sorted(
    {block.code for page in PAGES for block in blocks_of(page, "sh") if block.code.startswith("ehpc-image-sync")}
)


@pytest.mark.parametrize("line", OWN)
def test_the_programs_own_lines_can_be_called(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command: click.Command = cli.commands[name]
    with command.make_context(name, arguments) as context:
        assert context.args == []
