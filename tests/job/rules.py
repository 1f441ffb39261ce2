"""The rules of DESIGN section 4 that need no state. Where the text leaves a choice, the comment says what is read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from sync.config import Settings
from tests.job.journal import Journal, Reply, Row, Span
from tests.job.state import Missing


def is_over_limit(count: int, whole: int, settings: Settings) -> bool:
    """Return whether so much would go at once that it must be held: more than the share and more than the number."""
    return count > settings.removal_limit_count and count > whole * settings.removal_limit_percent / 100


def is_due(entry: Missing, settings: Settings) -> bool:
    """Return whether enough runs in a row missed it; a run that did not observe the target is not one of the row."""
    return 0 < settings.removal_accept_after_runs <= entry.run_count


def missed(before: Missing | None, when: Span, last_had: Span, answer_count: int) -> Missing:
    """Return the record of something missing with one more run that missed it."""
    if before is None:
        return Missing(when, last_had, 1, answer_count)
    return replace(before, run_count=before.run_count + 1, answer_count=before.answer_count + answer_count)


def answers_needed(before: Mapping[Any, int], answers: Sequence[frozenset[Any]], settings: Settings) -> int:
    """Return how many of the answers had to be asked for: until nothing is missing that is not confirmed."""
    union: frozenset[Any] = frozenset()
    for number, answer in enumerate(answers, 1):
        union |= answer
        if all(
            earlier + number >= settings.removal_confirmations
            for entry, earlier in before.items()
            if entry not in union
        ):
            return number
    return len(answers) + 1


def check_call_count(what: object, replies: Sequence[Reply], needed: int) -> None:
    """Check that neither more nor less was asked than confirmation needs."""
    good_count = len(leading_answers(replies))
    may_have_failed = needed > good_count and len(replies) == good_count + 1
    assert len(replies) == needed or may_have_failed, f"{what}: {len(replies)} calls, {needed} are needed"


def pairs_of(old: set[Row], new: frozenset[Row]) -> dict[Row, Row]:
    """Return which new row replaces which old one: same ImageId; the first in order where there is a choice."""
    left = sorted(new)
    found = {}
    for row in sorted(old):
        same = [young for young in left if young[0] and young[0] == row[0]]
        if same:
            found[row] = same[0]
            left.remove(same[0])
    return found


def leading_answers(replies: Sequence[Reply]) -> list[Reply]:
    """Return the answers before the first failure."""
    good = []
    for reply in replies:
        if reply.content is None:
            break
        good.append(reply)
    return good


def when_had(reply: Reply, journal: Journal) -> Span:
    """Return when an answer that had something may be said to have had it."""
    return Span(journal.began_at, reply.true_until)


def asks_discovery(settings: Settings) -> bool:
    """Return whether any entry of instance_types is discover or a glob."""
    return any(entry == "discover" or set(entry) & set("*?[") for entry in settings.instance_types)


def exact_names(settings: Settings) -> set[str]:
    """Return the instance types that are asked as they are."""
    names = {entry for entry in settings.instance_types if entry != "discover" and not set(entry) & set("*?[")}
    return {name for name in names if not admits_any(settings.exclude_instance_types, name)}


def is_wanted(name: str, settings: Settings) -> bool:
    """Return whether discover or a glob chooses the type."""
    globs = ["*" if entry == "discover" else entry for entry in settings.instance_types]
    is_chosen = admits_any([entry for entry in globs if set(entry) & set("*?[")], name)
    return is_chosen and not admits_any(settings.exclude_instance_types, name)


def admits_any(globs: Iterable[str], name: str) -> bool:
    """Return whether any of the globs matches the name."""
    return any(fnmatchcase(name, entry) for entry in globs)


def admits(only: Sequence[str], name: str) -> bool:
    """Return whether a restriction leaves the type in."""
    return not only or admits_any(only, name)
