"""Runs against a simulator at set times, and a teller that tells a receiver of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from sync.config import Settings
from sync.health import Health, find_health
from sync.simulator.catalogue import Catalogue
from sync.simulator.fault_text import parse_faults
from sync.tell import Teller
from tests.alerts.receiver import Receiver
from tests.cli.story import NOON, Recording

HOUR = timedelta(hours=1)
REGIONS = ("cn-beijing", "cn-hangzhou")

ALL_OF_BEIJING = "status=400 code=InvalidParameter.Scripted action=ListImages region=cn-beijing"
ONE_TYPE = "status=400 code=InvalidInstanceType.Scripted action=ListImages type=ecs.c1.large"
LISTING = "status=400 code=InvalidParameter.Scripted action=ListAvailableEcsTypes region=cn-beijing"


class Scene:
    """A history that grows by runs an hour apart."""

    def __init__(self, url: str, receiver: Receiver) -> None:
        self.recording = Recording(url, NOON)
        self.receiver = receiver
        self.settings = Settings(regions=REGIONS, schedule="0 * * * *", notify_urls=(receiver.channel,))
        self.teller = self.new_teller()

    def new_teller(self) -> Teller:
        """Return a teller as another process would have it."""
        return Teller(self.settings, self.recording.database, now=lambda: self.recording.now)

    def run(self, edit: Callable[[Catalogue], Catalogue] = lambda now: now, faults: str = "") -> None:
        """Let an hour pass, change what is offered, and make a run."""
        simulator = self.recording.simulator
        self.recording.now += HOUR
        simulator.catalogue = edit(simulator.catalogue)
        simulator.faults = parse_faults(faults)
        self.recording.make_run()

    def told(self, teller: Teller | None = None) -> list[str]:
        """Tell the channel, and return the titles of what arrived by that."""
        before = len(self.receiver.titles)
        (teller or self.teller).tell()
        return self.receiver.titles[before:]

    @property
    def last_message(self) -> str:
        """Return the text of the message that arrived last."""
        return str(self.receiver.messages[-1]["message"])

    def health(self, *, hours_later: float = 0, **settings: object) -> Health:
        """Return the health of the history some hours after the last run."""
        now = self.recording.now + hours_later * HOUR
        chosen = self.settings.model_copy(update=settings)
        with self.recording.database.reading() as connection:
            return find_health(connection, chosen, now)


@contextmanager
def playing(url: str, receiver: Receiver) -> Iterator[Scene]:
    """Give a scene after its first run."""
    scene = Scene(url, receiver)
    with scene.recording.simulator:
        scene.run()
        yield scene
    scene.recording.database.close()
