"""A history that tests of questions read: four runs at known times, long ago, in two regions.

12:00  the baseline: CentOS and Ubuntu in cn-hangzhou, CentOS in cn-beijing; ecs.c1.large has no images
13:00  Rocky Linux appears on the two ecs.c7 of cn-hangzhou, Ubuntu gets another name on ecs.g7.large
14:00  cn-hangzhou withdraws CentOS, retires ecs.g7.large and launches ecs.hpc8.large
15:00  cn-beijing fails, and in cn-hangzhou ecs.c1.large and ecs.new.large, which is listed for the first time
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sync.config import Settings
from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import BackoffPolicy, Client, ClientSettings
from sync.inventory import Image
from sync.run import RunRequest, run_once
from sync.simulator.catalogue import (
    Catalogue,
    OfferedType,
    catalogue_of,
    with_image_added,
    with_image_renamed,
    with_type,
    without_image,
    without_type,
)
from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.store.database import Database

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)

FAILURES = """
    status=400 code=InvalidParameter.Scripted action=ListImages region=cn-beijing
    status=400 code=InvalidInstanceType.Scripted action=ListImages type=ecs.c1.large
    status=400 code=InvalidInstanceType.Scripted action=ListImages type=ecs.new.large
"""


def an_image(name: str, platform: str, version: str) -> Image:
    """Return an image with the names that people know it by."""
    tag = f"{platform.replace(' ', '')}_{version}_64"
    return Image(
        name, tag, tag, platform, version, "x86_64", f"{platform}  {version} 64位", f"{platform} {version} 64 bit"
    )


CENTOS = an_image("m-centos", "CentOS", "7.6")
UBUNTU = an_image("m-ubuntu", "Ubuntu", "22.04")
ROCKY = an_image("m-rocky", "Rocky Linux", "9.3")


def at(hours: float) -> datetime:
    """Return the time that many hours after noon."""
    return NOON + timedelta(hours=hours)


def baseline() -> Catalogue:
    """Return what is offered at first."""
    both = [CENTOS, UBUNTU]
    return catalogue_of(
        {
            "cn-hangzhou": {
                "ecs.c7.large": both,
                "ecs.c7.xlarge": both,
                "ecs.g7.large": [UBUNTU],
                "ecs.c1.large": [],
            },
            "cn-beijing": {"ecs.c7.large": [CENTOS]},
        }
    )


def with_rocky(now: Catalogue) -> Catalogue:
    """Return the offer of 13:00."""
    added = with_image_added(now, ROCKY, region_id="cn-hangzhou", instance_type="ecs.c7.*")
    return with_image_renamed(added, "m-ubuntu", "Ubuntu LTS", region_id="cn-hangzhou", instance_type="ecs.g7.large")


def without_centos(now: Catalogue) -> Catalogue:
    """Return the offer of 14:00."""
    fewer = without_image(now, "m-centos", region_id="cn-hangzhou")
    retired = without_type(fewer, "ecs.g7.large", region_id="cn-hangzhou")
    return with_type(retired, "cn-hangzhou", OfferedType("ecs.hpc8.large", frozenset([ROCKY])))


def with_new_type(now: Catalogue) -> Catalogue:
    """Return the offer of 15:00."""
    return with_type(now, "cn-hangzhou", OfferedType("ecs.new.large", frozenset([ROCKY])))


EDITS: tuple[Callable[[Catalogue], Catalogue], ...] = (lambda now: now, with_rocky, without_centos, with_new_type)


class Recording:
    """A simulator and a database with a clock that the test sets."""

    def __init__(self, url: str, start: datetime = NOON) -> None:
        self.now = start
        self.database = Database(url)
        self.simulator = Simulator(baseline(), clock=lambda: self.now)

    def make_run(self) -> None:
        """Make one run of all regions at the set time."""
        endpoint = self.simulator.url
        settings = Settings(
            regions=("cn-beijing", "cn-hangzhou"), endpoint=endpoint, calls_per_second=10_000, workers=2
        )
        limits = ClientSettings(endpoint, 2, 10_000, max_attempts=1)
        credential = Credential(self.simulator.access_key_id, self.simulator.access_key_secret)
        with Client(limits, lambda: credential, now=lambda: self.now, backoff=BackoffPolicy(0, 0, 0)) as client:
            request = RunRequest(scheduled_at=self.now)
            run_once(settings, self.database, client, request, interrupt=threading.Event(), now=lambda: self.now)


def record_story(url: str, start: datetime = NOON) -> None:
    """Make the four runs of the story, an hour apart, into an empty database."""
    recording = Recording(url, start)
    with recording.simulator as simulator:
        for hours, edit in enumerate(EDITS):
            recording.now = start + timedelta(hours=hours)
            simulator.catalogue = edit(simulator.catalogue)
            simulator.faults = parse_faults(FAILURES) if hours == 3 else ()
            recording.make_run()
    recording.database.close()


def file_of(url: str) -> Path:
    """Return the file of an SQLite database."""
    return Path(url.removeprefix("sqlite:///"))
