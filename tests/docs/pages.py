"""The pages of docs/ as tests take them: their blocks of code, each with the output that the page shows for it."""

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$(?:\n\n\1```\n(.*?)^\1```$)?", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code and the output shown below it, empty where none is."""

    language: str
    code: str
    output: str


def text_of(page: str) -> str:
    """Return a page."""
    return (DOCS / page).read_text("utf-8")


def blocks_of(page: str, language: str) -> list[Block]:
    """Return the blocks in one language, in the order of the page."""
    found = [Block(match[2], _flush(match[3], match[1]), match[4] or "") for match in FENCE.finditer(text_of(page))]
    return [block for block in found if block.language == language]


def _flush(code: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))
