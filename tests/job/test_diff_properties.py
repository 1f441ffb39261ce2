"""What holds for every comparison: the changes lead from before to after, and few answers never remove."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.diff import Comparison, RemovalRules, judge_region
from sync.inventory import (
    Change,
    ChangeKind,
    HeldRemoval,
    Image,
    KnownTarget,
    Observation,
    Target,
    TargetUpdate,
    digest_of,
)
from tests.job.fake import row

BEFORE = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = BEFORE + timedelta(hours=1)
IMAGES = [Image(*row(name, image_id)) for image_id in ("m-1", "m-2", "") for name in "abc"]

RULES = st.builds(
    RemovalRules,
    confirmations=st.integers(1, 3),
    limit_percent=st.sampled_from([0, 25, 50, 100]),
    limit_count=st.sampled_from([0, 1, 3]),
    accept_after_runs=st.integers(0, 3),
)
SETS = st.frozensets(st.sampled_from(IMAGES))


@st.composite
def comparisons(draw: st.DrawFn) -> list[Comparison]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        target = Target("r", f"t.{number}")
        stored = draw(SETS)
        counts = draw(_held(stored)).items()
        held: dict[Image | None, HeldRemoval] = {
            image: HeldRemoval(BEFORE, BEFORE, None, runs, runs) for image, runs in counts
        }
        known = KnownTarget(number, target, digest_of(stored), BEFORE, BEFORE, BEFORE, False, None, bool(held))
        observation = Observation(draw(SETS), NOW, draw(st.integers(1, 3)))
        found.append(Comparison(target, known, dict.fromkeys(stored, BEFORE), held, observation))
    return found


def _held(stored: frozenset[Image]) -> st.SearchStrategy[dict[Image, int]]:
    if not stored:
        return st.just({})
    return st.dictionaries(st.sampled_from(sorted(stored)), st.integers(1, 3), max_size=3)


def judged(entries: list[Comparison], rules: RemovalRules) -> list[tuple[Comparison, TargetUpdate]]:
    """Return each comparison with its update; the targets are in order on both sides."""
    count = sum(len(entry.stored) for entry in entries)
    return list(zip(entries, judge_region(entries, count, rules), strict=True))


def applied(before: frozenset[Image], changes: tuple[Change, ...]) -> frozenset[Image]:
    """Return a set of images after the changes, each of which must be possible."""
    images = set(before)
    for change in changes:
        gone = change.image if change.kind is ChangeKind.REMOVED else change.previous_image
        if gone:
            images.remove(gone)
        if change.image and change.kind is not ChangeKind.REMOVED:
            assert change.image not in images
            images.add(change.image)
    return frozenset(images)


COMMON = settings(max_examples=100, derandomize=True, deadline=None, database=None)


@COMMON
@given(comparisons(), RULES)
def test_applying_the_changes_to_before_gives_after(entries: list[Comparison], rules: RemovalRules) -> None:
    for comparison, update in judged(entries, rules):
        before = frozenset(comparison.stored)
        after = applied(before, update.changes)
        assert after == (before | frozenset(update.opened)) - update.closed.keys()
        assert after == comparison.observation.images | frozenset(image for image in update.held if image)
        assert update.image_digest == digest_of(after)


@COMMON
@given(comparisons(), RULES)
def test_nothing_is_closed_by_fewer_answers_than_configured(entries: list[Comparison], rules: RemovalRules) -> None:
    for comparison, update in judged(entries, rules):
        for image in update.closed:
            earlier = comparison.held.get(image)
            answers = comparison.observation.answer_count + (earlier.missed_answers if earlier else 0)
            assert image not in comparison.observation.images
            assert answers >= rules.confirmations


@COMMON
@given(comparisons(), RULES)
def test_what_is_closed_ends_at_the_first_miss_and_changes_say_the_same(
    entries: list[Comparison], rules: RemovalRules
) -> None:
    for comparison, update in judged(entries, rules):
        removed = {change.image: change.detected_at for change in update.changes if change.kind is ChangeKind.REMOVED}
        replaced = {change.previous_image for change in update.changes if change.kind is ChangeKind.CHANGED}
        assert removed.keys() | replaced == update.closed.keys()
        for image, until in update.closed.items():
            assert until == (BEFORE if image in comparison.held else NOW)
        assert all(update.closed[image] == moment for image, moment in removed.items() if image)


@COMMON
@given(comparisons(), RULES)
def test_what_is_missing_is_closed_or_held_and_nothing_else_is(entries: list[Comparison], rules: RemovalRules) -> None:
    for comparison, update in judged(entries, rules):
        assert update.closed.keys() | update.held.keys() == comparison.missing
        assert not update.closed.keys() & update.held.keys()
