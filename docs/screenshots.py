"""Makes the pictures of README: ten weeks of real runs against the simulator, served, and photographed by a browser.

    python docs/screenshots.py                             docs/images/overview.png and docs/images/timeline.png
    python docs/screenshots.py --database weeks.db         only the ten weeks, which end now, as an SQLite file

The pictures need Chromium; the same code makes the same pictures.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sync.config import Settings
from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import BackoffPolicy, Client, ClientSettings
from sync.inventory import utc_now
from sync.run import RunRequest, run_once
from sync.simulator import timeline
from sync.simulator.catalogue import (
    Catalogue,
    with_image_added,
    with_image_renamed,
    with_image_replaced,
    with_type,
    without_image,
    without_images,
    without_type,
)
from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.simulator.stock import stock_image
from sync.store.database import Database

IMAGES: Final = Path(__file__).parent / "images"

DAYS = 70
END = datetime(2026, 7, 6, 6, tzinfo=UTC)
"""When the pictures are taken; their history ends minutes before."""

AFTER_LAST_RUN = timedelta(minutes=4)
WIDTH = 1280

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # which Chromium cannot have as root
    "--hide-scrollbars",
    "--virtual-time-budget=10000",  # milliseconds of the page's own time, until which charts are drawn
)

PICTURES = {
    "overview": ("/overview", 900),
    "timeline": ("/timeline?region=cn-hangzhou&os_tag=Ubuntu_*", 840),
}
"""The address and the height in pixels of each picture."""

HANGZHOU, SHANGHAI, SINGAPORE = timeline.DEFAULT_REGION_IDS
CENTOS_7_6, UBUNTU_22_04, ROCKY_9_3 = timeline.CENTOS_7_6, timeline.UBUNTU_22_04, timeline.ROCKY_9_3
UBUNTU_22_04_NEXT = "ubuntu_22_04_x64_20G_alibase_20250917.vhd"
UBUNTU_24_04 = "ubuntu_24_04_x64_20G_alibase_20250113.vhd"
UBUNTU_24_04_NEXT = "ubuntu_24_04_x64_20G_alibase_20251102.vhd"
UBUNTU_26_04 = "ubuntu_26_04_x64_20G_alibase_20260618.vhd"
ALIYUN_4 = "aliyun_4_x64_20G_container_optimized_alibase_20260430.vhd"
SEVENTH = ("ecs.c7.*", "ecs.g7.*", "ecs.r7.*")
NEWEST = ("ecs.c8i.*", "ecs.g8i.*", "ecs.hpc7ip.*")

Edit = Callable[[Catalogue], Catalogue]


@dataclass(frozen=True, slots=True)
class Day:
    """What is different from a day on: the offer, or the answers while the faults last."""

    number: int
    edit: Edit = lambda now: now
    faults: str | None = None
    """The faults in force from this day on; None leaves them as they are."""


def _added_beside(now: Catalogue, known: str, image_id: str) -> Catalogue:
    """Offer an image wherever another one is offered."""
    for region_id in now.region_ids:
        types = now.types_with(known, region_id)
        now = with_image_added(now, stock_image(image_id), region_id=region_id, instance_type=types)
    return now


def _with_hpc8(now: Catalogue) -> Catalogue:
    images = now.images_of(HANGZHOU, "ecs.hpc7ip.32xlarge")
    return with_type(now, HANGZHOU, replace(timeline.LAUNCHED_TYPE, images=images))


def _struck(now: Catalogue) -> Catalogue:
    types = [name for name in now.instance_types_of(SINGAPORE) if not name.startswith("ecs.hpc")]
    return without_images(now, region_id=SINGAPORE, instance_type=types)


STORY = (
    Day(6, lambda now: _added_beside(now, UBUNTU_22_04, UBUNTU_22_04_NEXT)),
    Day(9, lambda now: with_image_added(now, stock_image(ROCKY_9_3), instance_type=NEWEST)),
    Day(14, lambda now: with_image_added(now, stock_image(ROCKY_9_3), instance_type=SEVENTH)),
    Day(17, lambda now: without_image(now, UBUNTU_22_04, region_id=HANGZHOU)),
    Day(20, faults=f"status=503 code=ServiceUnavailable region={SHANGHAI}"),
    Day(22, faults=""),
    Day(24, _with_hpc8),
    Day(28, lambda now: without_image(now, CENTOS_7_6, region_id=HANGZHOU)),
    Day(32, lambda now: with_image_replaced(now, UBUNTU_24_04, stock_image(UBUNTU_24_04_NEXT))),
    Day(34, faults=f"status=500 code=InternalError action=ListImages region={HANGZHOU} type=ecs.g*"),
    Day(38, lambda now: without_image(now, CENTOS_7_6, region_id=SHANGHAI), faults=""),
    Day(40, lambda now: without_type(now, timeline.RETIRED_TYPE, region_id=SHANGHAI)),
    Day(
        42,
        lambda now: with_image_added(now, stock_image(CENTOS_7_6), region_id=HANGZHOU, instance_type="ecs.[cgr]7.*"),
    ),
    Day(
        46, lambda now: with_image_renamed(now, UBUNTU_22_04_NEXT, "Ubuntu 22.04 64位 (长期支持版)", region_id=SHANGHAI)
    ),
    Day(50, lambda now: with_image_replaced(now, timeline.ALIYUN_3_BEFORE, stock_image(timeline.ALIYUN_3_AFTER))),
    Day(53, lambda now: without_image(now, CENTOS_7_6, region_id=HANGZHOU)),
    Day(55, lambda now: with_image_added(now, stock_image(UBUNTU_26_04), instance_type=NEWEST)),
    Day(57, faults=f"status=503 code=ServiceUnavailable action=ListImages region={HANGZHOU}"),
    Day(59, lambda now: _added_beside(now, UBUNTU_22_04_NEXT, UBUNTU_26_04), faults=""),
    Day(63, lambda now: with_image_added(now, stock_image(ALIYUN_4), region_id=HANGZHOU, instance_type=NEWEST)),
    Day(66, lambda now: without_image(now, "almalinux_8_[56]_*", region_id=HANGZHOU)),
    Day(68, faults=f"status=400 code=InvalidInstanceType action=ListImages region={SHANGHAI} type=ecs.gn6v-*"),
    Day(69, _struck),
)
"""From the baseline on day 0 to the last run: launches, withdrawals, outages, and an accident that is held."""


def record_weeks(url: str, end: datetime) -> Settings:
    """Make a run a day for ten weeks into an empty database; return the settings of the runs."""
    moment = end
    with Simulator(clock=lambda: moment) as simulator:
        settings = Settings(regions=("all",), endpoint=simulator.url, schedule="0 6 * * *", database_url=url)
        database = Database(url)
        for number in range(DAYS):
            moment = end - timedelta(days=DAYS - 1 - number)
            _change(simulator, number)
            _run(settings, database, simulator, moment)
        database.close()
    return settings


def _change(simulator: Simulator, number: int) -> None:
    for day in STORY:
        if day.number == number:
            simulator.catalogue = day.edit(simulator.catalogue)
            if day.faults is not None:
                simulator.faults = parse_faults(day.faults)


def _run(settings: Settings, database: Database, simulator: Simulator, moment: datetime) -> None:
    credential = Credential(simulator.access_key_id, simulator.access_key_secret)
    limits = ClientSettings(settings.endpoint, settings.workers, 10_000, max_attempts=1)
    with Client(limits, lambda: credential, now=lambda: moment, backoff=BackoffPolicy(0, 0, 0)) as client:
        request = RunRequest("schedule", scheduled_at=moment)
        run_once(settings, database, client, request, interrupt=threading.Event(), now=lambda: moment)


@contextmanager
def served(settings: Settings, end: datetime) -> Iterator[str]:
    """Give the URL of the dashboard as it looks minutes after the last run."""
    from sync.web.app import create_app
    from sync.web.server import Server
    from sync.web.source import Source

    database = Database(settings.database_url, is_read_only=True)
    source = replace(Source.of_reader(settings, database), now=lambda: end + AFTER_LAST_RUN)
    server = Server(create_app(source), "127.0.0.1", 0)
    server.start()
    try:
        yield server.url
    finally:
        server.close()
        database.close()


def photograph(url: str, file: Path, height: int) -> None:
    """Write the picture of a page as it looks without scrolling, in the light colours.

    Raises:
        SystemExit: the browser wrote none; the message has what it said.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), BROWSERS[0])
    options = [*OPTIONS, f"--window-size={WIDTH},{height}", f"--screenshot={file}"]
    file.unlink(missing_ok=True)
    done = subprocess.run([browser, *options, url], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    if not file.exists():
        raise SystemExit(f"{browser} wrote no picture: {done.stderr}")


def main() -> None:
    """Record the weeks, and photograph them unless only they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", metavar="FILE", type=Path, help="only record the ten weeks into a new file")
    file: Path | None = parser.parse_args().database
    if file:
        if file.exists():
            parser.error(f"{file} exists; name a new file")
        record_weeks(f"sqlite:///{file}", utc_now().replace(minute=0, second=0, microsecond=0))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = record_weeks(f"sqlite:///{folder}/weeks.db", END)
        with served(settings, END) as url:
            for name, (address, height) in PICTURES.items():
                photograph(f"{url}{address}", IMAGES / f"{name}.png", height)
                sys.stdout.write(f"{IMAGES / name}.png\n")


if __name__ == "__main__":
    main()
