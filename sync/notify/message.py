"""What a message says, and the templates that say it: text and Markdown, which users can replace."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment, Template

logger = logging.getLogger(__name__)

TEMPLATES = ("title.txt", "message.txt", "message.md")

BUILT_IN = Path(__file__).parent / "templates"

MISSING_EXTRA = "{key} is set, but the package {package} is not installed; run: pip install 'ehpc-image-sync[{extra}]'"


class Severity(StrEnum):
    """How a channel marks a message; the values are Apprise's."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that has begun and goes on."""

    subject: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """What one message tells; templates know these fields by the same names."""

    changes: Sequence[str] = ()
    """One line per image, kind of change and region."""
    hidden_count: int = 0
    """Lines that are left out to keep the message short."""
    runs: str = ""
    """The run that recorded the changes, or the first and last of several: ``12`` or ``12-17``."""
    troubles: Sequence[Trouble] = ()
    recoveries: Sequence[str] = ()
    """The subjects of troubles that are over."""
    notes: Sequence[str] = ()
    """Sentences that are neither, such as that of a test."""

    @property
    def summary(self) -> str:
        """Return the message in a few words: its first fact, and how many more there are."""
        facts = [
            *(trouble.subject for trouble in self.troubles),
            *self.changes,
            *(f"resolved: {subject}" for subject in self.recoveries),
            *self.notes,
        ]
        more = len(facts) - 1 + self.hidden_count
        return f"{facts[0]}, and {more} more" if more > 0 else facts[0] if facts else ""

    @property
    def severity(self) -> Severity:
        """Return how the message is to be marked."""
        if self.troubles:
            return Severity.WARNING
        return Severity.SUCCESS if self.recoveries and not self.changes else Severity.INFO


@dataclass(frozen=True, slots=True)
class Text:
    """A message as a channel sends it."""

    title: str
    plain: str
    markdown: str
    severity: Severity


EXAMPLE = Message(
    changes=("CentOS 7.6 64 bit removed from 34 instance types in cn-hangzhou",),
    hidden_count=1,
    runs="12",
    troubles=(Trouble("3 removals held in cn-hangzhou", ("CentOS 7.6 64 bit missing from 3 instance types",)),),
    recoveries=("2 instance types of cn-beijing not observed since 2026-11-22 12:00 UTC: Throttling",),
    notes=("this is a test",),
)
"""With every field filled, to try a template when it is read and not when it is needed."""


class Templates:
    """The templates of messages: the built-in ones, or those of a folder that replaces some of them."""

    def __init__(self, folder: str | None = None) -> None:
        """Read and try all templates.

        Raises:
            ConfigError: the folder cannot be used, or a template is broken or names what there is not.
        """
        environment = _environment()
        self._built_in = {
            name: _compiled(environment, name, (BUILT_IN / name).read_text("utf-8")) for name in TEMPLATES
        }
        self._templates = self._built_in | {
            name: _compiled(environment, name, source) for name, source in _replacements(folder).items()
        }
        _text_of(self._templates, EXAMPLE)

    def text_of(self, message: Message) -> Text:
        """Return a message as its templates tell it; where one of them fails after all, as the built-in ones do."""
        try:
            return _text_of(self._templates, message)
        except ConfigError as error:
            logger.warning("the built-in templates are used instead: %s", error)
            return _text_of(self._built_in, message)


def _text_of(templates: "Mapping[str, Template]", message: Message) -> Text:
    values = {name: getattr(message, name) for name in FIELDS}
    title, plain, markdown = (_rendered(templates[name], name, values) for name in TEMPLATES)
    return Text(" ".join(title.split()), plain, markdown, message.severity)


FIELDS = ("summary", "changes", "hidden_count", "runs", "troubles", "recoveries", "notes")


def _replacements(folder: str | None) -> dict[str, str]:
    if folder is None:
        return {}
    try:
        files = sorted(entry for entry in Path(folder).iterdir() if not entry.name.startswith("."))
        texts = {file.name: file.read_text("utf-8") for file in files if file.name in TEMPLATES}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"notify_template_dir: {folder} cannot be read: {error}") from None
    unknown = [file.name for file in files if file.name not in TEMPLATES]
    if unknown or not texts:
        found = f"{unknown[0]} is no template" if unknown else "there is no template"
        raise ConfigError(f"notify_template_dir: {found} in {folder}; the names are {', '.join(TEMPLATES)}")
    return texts


def _environment() -> "Environment":
    try:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError as error:
        raise ConfigError(MISSING_EXTRA.format(key="notify_urls", package=error.name, extra="notify")) from None
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Plain text and Markdown; what a channel turns into HTML has passed the filter below.
        autoescape=False,
    )
    environment.filters["md"] = escape_markdown
    return environment


def _compiled(environment: "Environment", name: str, source: str) -> "Template":
    from jinja2 import TemplateSyntaxError, meta

    try:
        unknown = sorted(meta.find_undeclared_variables(environment.parse(source)) - set(FIELDS))
        if unknown:
            known = ", ".join(FIELDS)
            raise ConfigError(
                f"notify_template_dir: {name} names {unknown[0]!r}, which there is not; there are {known}"
            )
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        raise ConfigError(f"notify_template_dir: {name}, line {error.lineno}: {error.message}") from None


def _rendered(template: "Template", name: str, values: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError

    try:
        return re.sub(r"\n{3,}", "\n\n", template.render(values)).strip()
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"notify_template_dir: {name} cannot be used: {error}") from None


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is: names come from the API and must not become markup or HTML."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
