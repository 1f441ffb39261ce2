"""Instance types that went before they ever answered, and came back: what is asked about the time between."""

from datetime import datetime
from random import Random
from typing import Any

import pytest

from sync.compare import find_comparison
from sync.config import Settings
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import list_gaps
from sync.store.snapshot import list_images_at
from tests.job.fake import Bench, Fault, Rows, Script
from tests.job.journal import Key
from tests.questions.asking import ask_all
from tests.questions.stories import IMAGES, MILLISECOND, PastClock, Recording
from tests.questions.world import World, world_of

PLAIN: Key = ("aa", "t.1", "")
TAGGED: Key = ("aa", "t.1", "tag")
OF_TYPE = Filter(("aa",), ("t.1",))
ONE: Rows = frozenset(IMAGES[:1])
FAULT = Fault()


class Teller:
    """Makes runs an hour apart, in which t.2 is always listed and t.1 answers with and without a BaseOsTag."""

    def __init__(self, database: Database, tags: tuple[str, ...] = ("tag",)) -> None:
        self.recording = Recording(Bench(database, PastClock(is_still=False)))
        self.settings = Settings(regions=("aa",), base_os_tags=tags, workers=1)

    def run(self, plain: Rows | Fault | None, tagged: Rows | Fault = ONE) -> datetime:
        """Make a run; None is a type that is not listed. Return a moment after the run and before the next."""
        bench = self.recording.bench
        bench.clock.advance(3600)
        types = frozenset({"t.2"} if plain is None else {"t.1", "t.2"})
        images: dict[Key, list[Rows | Fault]] = {
            PLAIN: [plain or frozenset()],
            TAGGED: [tagged],
            ("aa", "t.2", ""): [ONE],
        }
        bench.run(self.settings, Script(images, {"aa": [types]}))
        self.recording.note()
        return bench.clock() + MILLISECOND

    def world(self) -> World:
        """Return what is true now."""
        return world_of(self.recording)


def compared(database: Database, first: datetime, second: datetime) -> list[tuple[Any, ...]]:
    """Return what ``compare`` says of t.1: kind, tag, and the observation of either side."""
    names = ("kind", "base_os_tag_filter", "before_observed_at", "after_observed_at")
    with database.reading() as connection:
        found = find_comparison(connection, OF_TYPE, [first, second], None, second, str)
    return [tuple(row[name] for name in names) for row in found.rows]


@pytest.mark.parametrize("answer", [ONE, FAULT], ids=["answers", "fails"])
def test_no_run_that_did_not_ask_a_type_is_told_as_its_observation(history: Database, answer: Rows | Fault) -> None:
    teller = Teller(history)
    there = teller.run(FAULT)
    teller.run(None)
    gone = teller.run(None)
    while_gone = compared(history, there, gone)
    teller.run(answer)
    seen_at = teller.world().lives[TAGGED].first_observed
    assert while_gone == compared(history, there, gone)
    assert [row for row in while_gone if row[1] == "tag"] == [("removed", "tag", while_gone[-1][2], None)]
    assert while_gone[-1][2] >= seen_at


@pytest.mark.parametrize("tags", [(), ("tag",)], ids=["plain", "tagged"])
def test_a_type_that_never_answered_before_it_went_was_gone_once_it_is_back(
    history: Database, tags: tuple[str, ...]
) -> None:
    teller = Teller(history, tags)
    teller.run(FAULT, FAULT)
    gone = teller.run(None)
    teller.run(ONE)
    with history.reading() as connection:
        assert list_images_at(connection, gone, OF_TYPE) == []


def test_a_listing_is_no_observation_of_a_type_that_returns_and_fails(history: Database) -> None:
    teller = Teller(history)
    teller.run(FAULT)
    teller.run(None)
    back = teller.run(FAULT, FAULT)
    with history.reading() as connection:
        rows = list_images_at(connection, back, OF_TYPE)
        gaps = [gap for gap in list_gaps(connection, OF_TYPE) if gap["gap_to"] is None]
    (added,) = [entry for entry in teller.world().changes if entry.kind == "type_added"]
    assert [(row["state"], row["observed_at"]) for row in rows] == [("unknown", None)] * 2
    assert [gap["gap_from"] for gap in gaps] == [added.detected_at] * 2


def test_every_question_about_a_type_that_never_answered_before_it_went(history: Database) -> None:
    teller = Teller(history)
    for plain, tagged in ((FAULT, ONE), (FAULT, FAULT), (None, ONE), (None, ONE), (FAULT, FAULT), (ONE, FAULT)):
        teller.run(plain, tagged)
    world = teller.world()
    with history.reading() as connection:
        assert ask_all(world, connection, Random(1)) == []
