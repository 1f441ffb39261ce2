"""Options that many commands share: configuration, database, filters and formats."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from sync.errors import ConfigError

Command = Callable[..., Any]

FORMATS = ("table", "json", "jsonl", "csv")

PROGRAM = "ehpc-image-sync"


def stored_options(command: Command) -> Command:
    """Add the options that every command with a configuration has, before and after the command's name."""

    @click.option("--config", metavar="FILE", help="Configuration file. [default: ehpc-image-sync.toml]")
    @click.option("--database-url", metavar="URL", help="Database to use, instead of the configured one.")
    @click.option(
        "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Override a configuration key. Repeatable."
    )
    @functools.wraps(command)
    def with_options(
        *args: Any, config: str | None, database_url: str | None, assignments: Sequence[str], **options: Any
    ) -> Any:
        chosen = click.get_current_context().find_root().ensure_object(dict)
        if config is not None:
            chosen["config"] = config
        overrides: dict[str, object] = chosen.setdefault("overrides", {})
        overrides.update(_assigned(assignment) for assignment in assignments)
        if database_url is not None:
            overrides["database_url"] = database_url
        return command(*args, **options)

    return with_options


def _assigned(assignment: str) -> tuple[str, str]:
    key, separator, value = assignment.partition("=")
    if not separator:
        raise ConfigError(f"--set {assignment}: write KEY=VALUE, for example --set calls_per_second=5")
    return key.strip(), value


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="How to print. [default: table on a terminal, else jsonl]",
)
region_option = click.option(
    "--region", "regions", metavar="REGION", multiple=True, help="Only this region. Repeatable."
)
type_option = click.option(
    "--instance-type", "types", metavar="TYPE", multiple=True, help="Only this instance type, or glob. Repeatable."
)
image_option = click.option(
    "--image",
    "images",
    metavar="IMAGE",
    multiple=True,
    help="Only this ImageId, OsTag or name, or glob ('CentOS*7.6*'). Repeatable.",
)
os_tag_option = click.option(
    "--os-tag",
    "os_tags",
    metavar="TAG",
    multiple=True,
    help="Only images with this OsTag, or glob ('RockyLinux_9*'). Repeatable.",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question is about, as it was typed."""

    regions: tuple[str, ...]
    types: tuple[str, ...]
    images: tuple[str, ...]
    os_tags: tuple[str, ...]


def filter_options(command: Command) -> Command:
    """Add the options of every question about images, and give them to the command together as ``asked``."""

    @region_option
    @type_option
    @image_option
    @os_tag_option
    @functools.wraps(command)
    def with_filters(
        *args: Any,
        regions: tuple[str, ...],
        types: tuple[str, ...],
        images: tuple[str, ...],
        os_tags: tuple[str, ...],
        **options: Any,
    ) -> Any:
        return command(*args, asked=Asked(regions, types, images, os_tags), **options)

    return with_filters
