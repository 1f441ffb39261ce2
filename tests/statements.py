"""README's SQL, by the words that stand before each statement."""

from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def _found() -> dict[str, str]:
    statements = {}
    for part in README.split("```sql\n")[1:]:
        before = README[: README.index("```sql\n" + part)]
        words = " ".join(before.rstrip().rpartition("\n\n")[2].split())
        statements[words] = part.partition("```")[0]
    return statements


STATEMENTS = _found()


def statement_of(words: str) -> str:
    """Return the one statement whose introduction begins with these words."""
    (found,) = [text for title, text in STATEMENTS.items() if title.startswith(words)]
    return found
