"""Random histories to ask about, made in the past by the product itself beside the model of tests/job."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from sync.accept import accept_removals
from sync.config import Settings
from sync.inventory import Image, Target
from sync.plan import Restriction
from sync.store.database import Database
from sync.store.schema import metadata
from tests.job.fake import Bench, Fault, Names, Rows, Script, Ticker
from tests.job.journal import Key, Row, Span
from tests.job.test_properties import STORIES, TARGETS, Story, Turn

BEGIN = datetime(2024, 3, 1, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

# Rows of one ImageId with other fields, rows without ImageId, and tags that only letter case or a wildcard's literal
# tells apart.
IMAGES: tuple[Row, ...] = (
    ("m-1", "CentOS_7.6_64", "CentOS", "CentOS", "7.6", "x86_64", "CentOS  7.6 64位", "CentOS 7.6 64 bit"),
    ("m-1", "CentOS_7.6_64", "CentOS", "CentOS", "7.6", "x86_64", "CentOS LTS", "CentOS LTS"),
    ("m-1", "CentOSx7.6_64", "CentOS", "CentOS", "7.6", "x86_64", "CentOSx", "100% CentOS"),
    ("m-2", "CentOS_7.6_64", "CentOS", "CentOS", "7.6", "arm64", "CentOS 7.6 ARM", "CentOS 7.6 ARM"),
    ("m-2", "centos_7.6_64", "CentOS", "CentOS", "7.6", "arm64", "CentOS 7.6 ARM", "CentOS 7.6 ARM"),
    ("", "Ubuntu_22.04_64", "Ubuntu", "Ubuntu", "22.04", "x86_64", "Ubuntu 22.04", "Ubuntu 22.04"),
    ("", "Ubuntu_22.04_64", "Ubuntu", "Ubuntu", "22.04.1", "x86_64", "Ubuntu 22.04", "Ubuntu 22.04"),
)


FAULTS = (Fault(), Fault("network.timeout"))
"""Runs fail in two ways, so that a gap gets another cause."""
LISTING_FAULT = Fault("InternalError.Discovery")
"""What ends a discovery is told apart from what ends a target's call, as the names of the actions do."""


class PastClock(Ticker):
    """A clock of long ago: it shows another millisecond at each look, or stands still until time passes."""

    def __init__(self, *, is_still: bool) -> None:
        super().__init__()
        self._is_still = is_still
        self._shown = BEGIN

    def __call__(self) -> datetime:
        """Return the present."""
        if not self._is_still:
            self._shown += MILLISECOND
        return self._shown

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._shown += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Tale:
    """A random history and when its runs are made."""

    story: Story
    is_still: bool
    """Whether a run takes no time at all."""
    pauses_h: list[int]
    """The hours before each run."""
    accepted: frozenset[int]
    """After which runs a person accepts all that is held."""
    seed: int
    """What the questions are drawn from."""


REGIONS = ("aa", "bb")
# Instance types that leave, are held while they still answer, and return: rare among the stories of all kinds.
FADING_RULES = {
    "removal_confirmations": st.integers(1, 2),
    "removal_limit_percent": st.just(0),
    "removal_limit_count": st.sampled_from([0, 1]),
    "removal_accept_after_runs": st.integers(0, 3),
}
FADING_CONFIGS: list[dict[str, object]] = [
    {"regions": REGIONS, "instance_types": ("discover",), "base_os_tags": tags} for tags in ((), ("tag",))
]
FADING_TURNS = st.builds(
    Turn,
    toggled=st.frozensets(st.tuples(st.sampled_from(TARGETS), st.integers(0, len(IMAGES) - 1)), max_size=12),
    emptied=st.just(frozenset()),
    toggled_types=st.frozensets(st.tuples(st.sampled_from(REGIONS), st.sampled_from(("t.1", "t.2"))), max_size=2),
    faults=st.frozensets(st.tuples(st.sampled_from(TARGETS), st.integers(0, 1)), max_size=3),
    flickers=st.just(frozenset()),
    listing_faults=st.just(frozenset()),
    type_flickers=st.just(frozenset()),
    regions=st.just(frozenset(REGIONS)),
    config=st.just(0),
    only=st.just(Restriction()),
    is_dry=st.just(False),
)
FADING_STORIES = st.builds(
    Story,
    rules=st.fixed_dictionaries(FADING_RULES),
    configs=st.sampled_from([[config] for config in FADING_CONFIGS]),
    images=st.frozensets(st.tuples(st.sampled_from(TARGETS), st.integers(0, len(IMAGES) - 1)), min_size=9, max_size=30),
    listed=st.just(frozenset((region, name) for region in REGIONS for name in ("t.1", "t.2"))),
    turns=st.lists(FADING_TURNS, min_size=3, max_size=7),
)

TALES = st.builds(
    Tale,
    story=st.one_of(STORIES, STORIES, FADING_STORIES),
    is_still=st.just(False),
    pauses_h=st.lists(st.sampled_from([1, 5, 30, 200, 200]), min_size=7, max_size=7),
    accepted=st.frozensets(st.integers(0, 6), max_size=1),
    seed=st.integers(0, 2**32),
)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the discovery of a region had said after a run."""

    is_known: bool
    instance_types: frozenset[str]


@dataclass(slots=True)
class Recording:
    """A history in the making: the bench, and what is true after each run and forgotten by the model later."""

    bench: Bench
    retired: list[dict[Key, Span]] = field(default_factory=list)
    """After each run, since when which targets were retired."""
    listings: list[dict[str, Listing]] = field(default_factory=list)

    def note(self) -> None:
        """Keep what is true now."""
        model = self.bench.model
        self.retired.append({key: state.retired for key, state in model.targets.items() if state.retired})
        self.listings.append(
            {name: Listing(state.was_listed, frozenset(state.listed)) for name, state in model.regions.items()}
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
        return FAULTS[len(turn.toggled) % 2]
    flickers = {(key, image) for owner, number, image in turn.flickers if (owner, number) == (key, call)}
    return frozenset(IMAGES[image] for owner, image in images ^ flickers if owner == key)


def _listing(turn: Turn, listed: frozenset[tuple[str, str]], region: str, call: int) -> Names | Fault:
    if (region, call) in turn.listing_faults:
        return LISTING_FAULT
    flickers = {(region, name) for owner, number, name in turn.type_flickers if (owner, number) == (region, call)}
    return frozenset(name for owner, name in listed ^ flickers if owner == region)


def record(tale: Tale, database: Database) -> Recording:
    """Make all runs of the tale on an empty database."""
    recording = Recording(Bench(database, PastClock(is_still=tale.is_still)))
    images, listed = tale.story.images, tale.story.listed
    for number, turn in enumerate(tale.story.turns):
        images = frozenset(pair for pair in images ^ turn.toggled if pair[0][0] not in turn.emptied)
        listed = listed ^ turn.toggled_types
        values: dict[str, object] = {"workers": 1, **tale.story.rules, **tale.story.configs[turn.config]}
        recording.bench.clock.advance(tale.pauses_h[number] * 3600)
        _make_run(recording, Settings.model_validate(values), script_of(turn, images, listed), turn.only)
        if number in tale.accepted:
            _accept_all(recording)
    return recording


def _make_run(recording: Recording, settings: Settings, script: Script, only: Restriction) -> None:
    recording.bench.run(settings, script, only)
    recording.note()


def _accept_all(recording: Recording) -> None:
    bench = recording.bench
    shown = bench.model.held()
    if not shown:
        return
    bench.clock.advance(3600)
    began_at = bench.clock()
    held = [(Target(*key), Image(*row) if row else None) for key, row in shown]
    accept_removals(bench.database, held, now=bench.clock)
    bench.accept(began_at, shown)
    recording.note()


def wipe(database: Database) -> None:
    """Empty all tables but the lease, so that the next tale needs no new database."""
    with database.writing() as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name != "lease":
                connection.execute(table.delete())
