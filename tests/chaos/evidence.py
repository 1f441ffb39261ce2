"""What the judges are given: what was done to the program, and what it left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.chaos.offers import Offer
from tests.chaos.receiver import Delivery
from tests.chaos.watcher import Sighting

View = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Offered:
    """What the catalogue had from a moment on; the edit was made between two moments of the true clock."""

    name: str
    offer: Offer
    begun_at: datetime
    done_at: datetime
    is_true_time: bool = True
    """Whether the clocks of the daemons were right then, so that dates can be compared with the true clock."""
    is_held: bool = False
    """Whether its removals wait for a person."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that was done to the program, and for how long."""

    kind: str
    """network, database, kill, stop, terminate, hup, clock, receiver."""
    begun_at: datetime
    ended_at: datetime
    was_holder: bool = False
    """Whether the process that suffered it held the lease."""

    def touches(self, since: datetime, until: datetime) -> bool:
        """Return whether it overlaps a span."""
        return self.begun_at <= until and since <= self.ended_at


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known when the chaos is over; times are of the true clock but those in rows of the database."""

    interval: timedelta
    """The schedule's."""
    lease_s: float
    offered: Sequence[Offered]
    sightings: Sequence[Sighting]
    disturbances: Sequence[Disturbance]
    deliveries: Sequence[Delivery]
    image_history: View
    available_images: View
    image_changes: View
    watched_from: datetime
    """From here on each tick must have its run."""
    watched_until: datetime
    leases: View = ()
    """Rows of the lease table after the end."""
    touches: Sequence[str] = ()
    """What a person did."""
    troubles: Sequence[str] = field(default_factory=tuple)
    """What the stage itself found wrong: processes that died, hung or wrote tracebacks."""
