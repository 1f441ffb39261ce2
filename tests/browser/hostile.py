"""A history in which every text that the API gives is an attack on the page that shows it."""

import threading
from datetime import datetime, timedelta
from typing import Any

from sync.config import Settings
from sync.ehpc.fetch import Answer
from sync.errors import CallError
from sync.inventory import Image, Target
from sync.run import RunRequest, run_once
from sync.store.database import Database
from tests.cli.story import at

ATTACKS = (
    "<script>window.hit=1</script>",
    '"><img src=x onerror=window.hit=1>',
    "' onmouseover='window.hit=1",
    "{{7*7}}${7*7}",
    "javascript:window.hit=1",
    "]]>",
    "\u202egnirts desrever",
    "🐉🐲 八爪鱼",
    "</script><script>window.hit=1</script>",
    "<b>bold</b>",
    '<a href="javascript:window.hit=1">x</a>',
    "line\nbreak",
    "&lt;i&gt;&amp;nbsp;%3Cb%3E",
    "<!--",
    "--text",
    "../../etc?a=b&c=d#e;f",
)

LONG = "x" * 1000
"""A name as long as a field of the API may be: nothing in it lets a line be broken."""

REGIONS = ("cn-hangzhou", ATTACKS[1])

SETTINGS = Settings(regions=REGIONS, workers=1, removal_limit_count=0, removal_limit_percent=10)


def an_attack(text: str, number: int) -> Image:
    """Return an image all of whose fields attack, told apart from others by a number."""
    name = f"{text} {number}"
    return Image(name, f"tag {name}", text, text, name, text, f"{name} 64位", f"{name} 64 bit")


def a_long_one() -> Image:
    """Return an image with the longest names; its id is only as long as an address can ask for."""
    return Image(LONG[:200], LONG[:200], LONG, LONG, LONG, LONG, LONG, LONG)


IMAGES = (*(an_attack(text, number) for number, text in enumerate(ATTACKS)), a_long_one())
TYPES = (*(f"ecs.{text}.large" for text in ATTACKS[:11]), f"ecs.{'y' * 90}.large")


class HostileClient:
    """Has the interface of ``sync.ehpc.fetch.Client`` and gives what it is told to."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.types = set(TYPES[1:])
        self.images = set(IMAGES[1:])
        self.failing: set[str] = set()

    def fetch_images(self, target: Target) -> Answer[frozenset[Image]]:
        """Give all images, or an error whose every part attacks."""
        if target.instance_type in self.failing:
            raise CallError(ATTACKS[0], f"{ATTACKS[8]} {LONG[:300]}", request_id=ATTACKS[1])
        return Answer(frozenset(self.images), ATTACKS[0], self.now)

    def fetch_instance_types(self, _: str) -> Answer[tuple[str, ...]]:
        """Give all types."""
        return Answer(tuple(sorted(self.types)), ATTACKS[0], self.now)

    def stop(self) -> None:
        """Do nothing: no call takes time."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


def record_hostile(url: str) -> None:
    """Make five runs: a baseline, everything new, another name and one fewer of each, failures, a held removal."""
    database = Database(url)
    client = HostileClient(at(0))
    _run(database, client, 0)
    client.types.add(TYPES[0])
    client.images.add(IMAGES[0])
    _run(database, client, 0.5)
    client.images = client.images - {IMAGES[2], IMAGES[3]} | {_renamed(IMAGES[3])}
    client.types.discard(TYPES[2])
    _run(database, client, 1)
    client.failing = {TYPES[0], TYPES[8], TYPES[11]}
    _run(database, client, 2)
    client.images -= set(IMAGES[5:])
    _run(database, client, 3)
    database.close()


def _renamed(image: Image) -> Image:
    fields = (image.image_id, image.os_tag, image.base_os_tag, image.platform, image.version, image.architecture)
    return Image(*fields, f"{ATTACKS[8]} renamed", f"{ATTACKS[0]} renamed")


def _run(database: Database, client: Any, hours: float) -> None:
    client.now = at(hours) + timedelta(seconds=1)
    request = RunRequest(ATTACKS[9], scheduled_at=at(hours))
    run_once(SETTINGS, database, client, request, interrupt=threading.Event(), now=lambda: at(hours))
