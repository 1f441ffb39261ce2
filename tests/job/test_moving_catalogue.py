"""A catalogue that moves through everything at once, over HTTP, on every database: the views follow it exactly."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sync.config import Settings
from sync.inventory import RunStatus
from sync.plan import Restriction
from sync.store.database import Database
from sync.store.verify import violations
from tests.job.endpoint import ApiRow, Endpoint, Plot
from tests.job.stage import Stage

REGIONS = ("cn-hangzhou", "cn-shanghai")
HANGZHOU, SHANGHAI = REGIONS
TYPES = [f"ecs.{family}.{size}xlarge" for family in ("c7", "g7", "r7") for size in range(1, 11)]
SETTINGS = Settings.model_validate({"regions": ("all",), "workers": 8})


def api_row(name: str, **fields: object) -> ApiRow:
    return {
        "ImageId": f"m-{name}",
        "OsTag": f"CentOS_{name}",
        "BaseOsTag": "CentOS",
        "Platform": "CentOS",
        "Version": 7.6,
        "Architecture": "x86_64",
        "OSName": f"CentOS  {name}",
        "OSNameEn": f"CentOS {name}",
    } | fields


def rows(*names: str) -> list[ApiRow]:
    return [api_row(name) for name in names]


@pytest.fixture
def stage(database: Database) -> Iterator[Stage]:
    catalogue = {region: {name: rows("a", "b", "c", "d") for name in TYPES} for region in REGIONS}
    with Endpoint(catalogue) as endpoint:
        yield Stage(database, endpoint, SETTINGS)


@dataclass(frozen=True, slots=True)
class Story:
    """Acts of one long story; every view is compared after every run."""

    stage: Stage

    def expect(self, status: RunStatus, plot: Plot | None = None, settings: Settings = SETTINGS) -> None:
        result = self.stage.run(plot, settings=settings)
        assert (result.status, self.stage.differences()) == (status, [])
        assert violations(self.stage.database) == []

    def offer(self, region: str, names: list[str], images: list[ApiRow]) -> None:
        for name in names:
            self.stage.endpoint.offer((region, name), images)

    def images_move_and_one_type_fails(self) -> None:
        self.offer(HANGZHOU, TYPES[:1], rows("b", "c", "d", "new"))
        self.offer(HANGZHOU, TYPES[1:2], [api_row("a", Version="7.9"), *rows("b", "c", "d")])
        self.offer(SHANGHAI, TYPES[:1], [])
        self.expect(RunStatus.PARTIAL, Plot(faults_at(SHANGHAI, {TYPES[2]: "unavailable"})))

    def a_type_comes_and_an_image_flickers(self) -> None:
        self.offer(SHANGHAI, TYPES[2:3], rows("a"))
        self.offer(HANGZHOU, ["ecs.new.large"], rows("a", "b"))
        place = (SHANGHAI, TYPES[5])
        self.expect(RunStatus.OK, Plot(answers={(place, 0): rows("a", "b"), (place, 1): rows("c", "d")}))

    def a_region_is_denied_and_a_type_goes(self) -> None:
        self.expect(RunStatus.PARTIAL, Plot(denied_regions=frozenset({SHANGHAI})))
        self.stage.endpoint.withdraw((HANGZHOU, TYPES[9]))
        self.expect(RunStatus.OK)

    def most_images_go_and_come_back(self) -> None:
        catalogue = self.stage.endpoint.catalogue[SHANGHAI]
        before = {name: list(catalogue[name]) for name in TYPES[5:25]}
        self.offer(SHANGHAI, TYPES[5:25], rows("x"))
        self.expect(RunStatus.HELD)
        for name, images in before.items():
            self.offer(SHANGHAI, [name], [*images, *rows("x")])
        self.expect(RunStatus.OK)

    def most_images_go_for_good(self) -> None:
        self.offer(HANGZHOU, TYPES[10:20], [])
        place = (HANGZHOU, TYPES[11])
        self.expect(RunStatus.HELD, Plot({(place, 1): "html", (place, 2): "html"}))
        self.expect(RunStatus.HELD, Plot(faults_at(HANGZHOU, {TYPES[12]: "shape"})))
        self.expect(RunStatus.HELD)
        self.expect(RunStatus.OK)

    def a_type_returns_while_others_break(self) -> None:
        self.offer(HANGZHOU, TYPES[9:10], rows("a", "b", "c", "d", "e"))
        self.offer(HANGZHOU, TYPES[13:14], rows("a", "b"))
        self.expect(RunStatus.PARTIAL, Plot(faults_at(SHANGHAI, BROKEN)))
        self.expect(RunStatus.OK)

    def the_configuration_narrows_and_widens_while_discovery_fails(self) -> None:
        narrow = {"instance_types": ("ecs.c7.*",), "regions": (HANGZHOU,)}
        self.expect(RunStatus.OK, settings=SETTINGS.model_copy(update=narrow))
        self.expect(RunStatus.PARTIAL, Plot(faults_at(SHANGHAI, {"": "throttled"})))

    def discovery_shrinks_and_recovers(self) -> None:
        self.expect(RunStatus.HELD, Plot(listings={HANGZHOU: TYPES[:5]}))
        self.stage.run(only=Restriction((SHANGHAI,), ("ecs.g7.*",)))
        self.expect(RunStatus.OK)

    def a_person_accepts_what_is_held(self) -> None:
        self.offer(SHANGHAI, TYPES[8:24], [])
        self.expect(RunStatus.HELD, Plot(listings={HANGZHOU: TYPES[:5]}))
        self.stage.accept_all()
        assert self.stage.differences() == []
        self.expect(RunStatus.OK)


def test_every_view_follows_a_catalogue_that_moves_for_many_runs(stage: Stage) -> None:
    story = Story(stage)
    story.expect(RunStatus.OK)
    story.expect(RunStatus.OK)
    story.images_move_and_one_type_fails()
    story.a_type_comes_and_an_image_flickers()
    story.a_region_is_denied_and_a_type_goes()
    story.most_images_go_and_come_back()
    story.most_images_go_for_good()
    story.a_type_returns_while_others_break()
    story.the_configuration_narrows_and_widens_while_discovery_fails()
    story.discovery_shrinks_and_recovers()
    story.a_person_accepts_what_is_held()


BROKEN = {TYPES[20]: "reset", TYPES[21]: "truncated", TYPES[22]: "html", TYPES[23]: "throttled", TYPES[24]: "shape"}


def faults_at(region: str, faults: dict[str, str]) -> dict[tuple[tuple[str, str], int], str]:
    """Return faults that meet both attempts of the first call of each type; type "" is discovery."""
    return {((region, name), number): fault for name, fault in faults.items() for number in range(2)}


def test_a_dry_run_leaves_every_view_as_it_was(stage: Stage) -> None:
    stage.run()
    stage.endpoint.offer((HANGZHOU, TYPES[0]), rows("b"))
    assert stage.run(is_dry=True).counts.images_removed == 3
    assert stage.differences() == []


def test_an_image_that_goes_between_two_answers_of_a_run_was_last_seen_before_it_went(stage: Stage) -> None:
    place = (HANGZHOU, TYPES[0])
    stage.run()
    stage.endpoint.offer(place, rows("b", "c", "d"))
    stage.run(Plot(events={(place, 0): lambda: stage.endpoint.offer(place, rows("c", "d"))}))
    stage.run()
    assert stage.differences() == []


def test_an_image_that_goes_while_its_answer_is_under_way_was_last_seen_before_it_went(stage: Stage) -> None:
    place = (HANGZHOU, TYPES[0])
    stage.run()
    stage.run(Plot(events={(place, 0): lambda: stage.endpoint.offer(place, rows("b", "c", "d"))}))
    stage.run()
    assert stage.differences() == []


def test_an_image_that_comes_between_two_answers_of_a_run_is_detected_after_it_came(stage: Stage) -> None:
    place = (HANGZHOU, TYPES[0])
    stage.run()
    stage.endpoint.offer(place, rows("b", "c", "d"))
    stage.run(Plot(events={(place, 0): lambda: stage.endpoint.offer(place, rows("b", "c", "d", "late"))}))
    assert stage.differences() == []
