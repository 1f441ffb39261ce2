"""What the history of a catalogue must look like, by examples."""

from dataclasses import replace

from tests.chaos.expected import Change, Span, history_of
from tests.chaos.offers import Key, Offer, image_of, row_of

A, B = image_of("a"), image_of("b")
PLACE: Key = ("r", "t.1")
OTHER: Key = ("r", "t.2")


def offer(*names: str) -> Offer:
    return {PLACE: frozenset(row_of(image_of(name)) for name in names)}


def test_the_first_state_is_a_baseline_without_changes() -> None:
    history = history_of([offer("a", "b")])
    assert history.changes == ()
    assert set(history.spans) == {Span(PLACE, row_of(image), 0, None, is_baseline=True) for image in (A, B)}


def test_an_image_that_comes_back_has_two_spans() -> None:
    history = history_of([offer("a", "b"), offer("a"), offer("a", "b")])
    spans = [span for span in history.spans if span.row == row_of(B)]
    assert [(span.begun_by, span.ended_by, span.is_baseline) for span in spans] == [(0, 1, True), (2, None, False)]
    assert [(change.by, change.kind) for change in history.changes] == [(1, "removed"), (2, "added")]


def test_another_row_of_the_same_image_id_is_a_change_and_nothing_else() -> None:
    renamed = row_of(replace(A, os_name="another"))
    history = history_of([offer("a"), {PLACE: frozenset({renamed})}])
    assert history.changes == (Change(1, "changed", PLACE, renamed),)
    assert len(history.spans) == 2


def test_types_come_and_go_without_changes_of_their_images() -> None:
    two = offer("a") | {OTHER: frozenset({row_of(A), row_of(B)})}
    history = history_of([offer("a"), two, offer("a")])
    assert [(change.by, change.kind, change.row) for change in history.changes] == [
        (1, "type_added", None),
        (2, "type_retired", None),
    ]
    assert [(span.begun_by, span.ended_by, span.is_baseline) for span in history.spans if span.key == OTHER] == [
        (1, 2, True),
        (1, 2, True),
    ]
