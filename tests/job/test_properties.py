"""Random histories: whatever the API answers, the views say what the model says."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sync.config import Settings
from sync.plan import Restriction
from sync.store.database import Database
from sync.store.verify import violations
from tests.job.fake import Bench, Fault, Names, Rows, Script, row
from tests.job.journal import Key

REGIONS = ("aa", "bb")
TYPES = ("t.1", "t.2", "u.1")
TAGS = ("", "tag")
TARGETS = [(region, name, tag) for region in REGIONS for name in (*TYPES, "*") for tag in TAGS]
# Three rows share an ImageId, two another one, and two have none, so that rows replace each other in every way.
IMAGES = (
    row("a", "m-1"),
    row("b", "m-1"),
    row("c", "m-1"),
    row("d", "m-2"),
    row("e", "m-2"),
    row("f", ""),
    row("g", ""),
)
FAULT = Fault()

CONFIGS = st.fixed_dictionaries(
    {
        "regions": st.sampled_from([REGIONS, REGIONS, ("aa",), ("all",)]),
        "instance_types": st.sampled_from(
            [("discover",), ("discover",), ("discover",), ("t.*",), ("t.1",), ("t.1", "u.*"), ("t.1", "t.2", "u.1")]
        ),
        "exclude_instance_types": st.sampled_from([(), (), ("t.2",)]),
        "all_types_target": st.booleans(),
        "base_os_tags": st.sampled_from([(), (), ("tag",)]),
    }
)
RULES = st.fixed_dictionaries(
    {
        "removal_confirmations": st.integers(1, 3),
        "removal_limit_percent": st.sampled_from([0, 25, 50, 100]),
        "removal_limit_count": st.sampled_from([0, 1, 3, 20]),
        "removal_accept_after_runs": st.integers(0, 3),
    }
)
RESTRICTIONS = st.sampled_from(
    [Restriction()] * 5
    + [Restriction(("aa",)), Restriction((), ("t.1",)), Restriction((), ("t.*",)), Restriction(("bb",), ("t.2", "u.1"))]
)

REGION = st.sampled_from(REGIONS)
TARGET = st.sampled_from(TARGETS)
IMAGE = st.sampled_from(range(len(IMAGES)))
CALL = st.integers(0, 2)


@dataclass(frozen=True, slots=True)
class Turn:
    """What happens before and during one run."""

    toggled: frozenset[tuple[Key, int]]
    emptied: frozenset[str]
    """Regions that lose all images."""
    toggled_types: frozenset[tuple[str, str]]
    faults: frozenset[tuple[Key, int]]
    flickers: frozenset[tuple[Key, int, int]]
    """Images that one answer alone has or lacks."""
    listing_faults: frozenset[tuple[str, int]]
    type_flickers: frozenset[tuple[str, int, str]]
    regions: Names | Fault
    config: int
    only: Restriction
    is_dry: bool


TURNS = st.builds(
    Turn,
    toggled=st.frozensets(st.tuples(TARGET, IMAGE), max_size=8),
    emptied=st.sampled_from([frozenset()] * 6 + [frozenset({"aa"}), frozenset(REGIONS)]),
    toggled_types=st.frozensets(st.tuples(REGION, st.sampled_from(TYPES)), max_size=2),
    faults=st.frozensets(st.tuples(TARGET, CALL), max_size=4),
    flickers=st.frozensets(st.tuples(TARGET, CALL, IMAGE), max_size=4),
    listing_faults=st.frozensets(st.tuples(REGION, CALL), max_size=1),
    type_flickers=st.frozensets(st.tuples(REGION, CALL, st.sampled_from(TYPES)), max_size=2),
    regions=st.sampled_from([frozenset(REGIONS), frozenset(REGIONS), frozenset({"bb"}), FAULT]),
    config=st.sampled_from([0, 0, 0, 1, 2]),
    only=RESTRICTIONS,
    is_dry=st.sampled_from([False] * 7 + [True]),
)


@dataclass(frozen=True, slots=True)
class Story:
    """A whole random history: its rules, its three configurations, where it starts, and what happens."""

    rules: dict[str, int]
    configs: list[dict[str, object]]
    images: frozenset[tuple[Key, int]]
    listed: frozenset[tuple[str, str]]
    turns: list[Turn]


STORIES = st.builds(
    Story,
    rules=RULES,
    configs=st.lists(CONFIGS, min_size=3, max_size=3),
    images=st.frozensets(st.tuples(TARGET, IMAGE), min_size=4, max_size=30),
    listed=st.frozensets(st.tuples(REGION, st.sampled_from(TYPES))),
    turns=st.lists(TURNS, min_size=2, max_size=7),
)


def script_of(turn: Turn, images: frozenset[tuple[Key, int]], listed: frozenset[tuple[str, str]]) -> Script:
    """Return what three calls of every target and region get."""
    return Script(
        {key: [_answer(turn, images, key, call) for call in range(3)] for key in TARGETS},
        {region: [_listing(turn, listed, region, call) for call in range(3)] for region in REGIONS},
        turn.regions,
    )


def _answer(turn: Turn, images: frozenset[tuple[Key, int]], key: Key, call: int) -> Rows | Fault:
    if (key, call) in turn.faults:
        return FAULT
    flickers = {(key, image) for owner, number, image in turn.flickers if (owner, number) == (key, call)}
    return frozenset(IMAGES[image] for owner, image in images ^ flickers if owner == key)


def _listing(turn: Turn, listed: frozenset[tuple[str, str]], region: str, call: int) -> Names | Fault:
    if (region, call) in turn.listing_faults:
        return FAULT
    flickers = {(region, name) for owner, number, name in turn.type_flickers if (owner, number) == (region, call)}
    return frozenset(name for owner, name in listed ^ flickers if owner == region)


def play(story: Story, bench: Bench) -> None:
    """Make all runs of the story and compare every view after each."""
    images, listed = story.images, story.listed
    for turn in story.turns:
        images = frozenset(pair for pair in images ^ turn.toggled if pair[0][0] not in turn.emptied)
        listed = listed ^ turn.toggled_types
        values: dict[str, object] = {"workers": 2, **story.rules, **story.configs[turn.config]}
        chosen = Settings.model_validate(values)
        bench.run(chosen, script_of(turn, images, listed), turn.only, is_dry=turn.is_dry)
        found = bench.differences()
        assert not found, "\n".join(found)
        assert violations(bench.database) == []


def play_on_copy(story: Story, template: Path) -> None:
    """Play the story on a fresh database."""
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template, folder)
        database = Database(f"sqlite:///{path}")
        try:
            play(story, Bench(database))
        finally:
            database.close()


COMMON = settings(deadline=None, database=None, print_blob=False, suppress_health_check=list(HealthCheck))


@settings(COMMON, max_examples=60, derandomize=True, phases=[Phase.generate])
@given(STORIES)
def test_the_views_are_what_the_model_says_after_every_run_of_a_random_history(template: Path, story: Story) -> None:
    play_on_copy(story, template)


@pytest.mark.slow
@settings(COMMON, max_examples=160, phases=[Phase.generate])
@given(STORIES)
@seed(20260301)
def test_the_views_are_what_the_model_says_in_many_more_histories(template: Path, story: Story) -> None:
    play_on_copy(story, template)
