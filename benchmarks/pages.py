"""The dashboard's pages on a history of two years: how long the server takes for each.

Run as ``python -m benchmarks.pages [sqlite] [postgresql] [mariadb]``, or with the URL of a database; all are what
``benchmarks.history`` has left there. A request goes through the whole application, as a browser's would but for the
socket: address, checks, reads, template. Every round asks about another region, type, image and time. ``kB`` is the
page's size as sent, and the charts' script is not in it, which browsers keep.
"""

import argparse
import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient

from benchmarks.queries import Sample, sample_of
from benchmarks.servers import DEFAULT_SERVERS, lasting_url
from sync.config import Settings
from sync.store.database import Database
from sync.web.app import Source, create_app
from sync.web.metrics import Telemetry

ROUNDS = 15
WARM_UP = 2
REACH_MS = 200

PAGES = (
    "/overview",
    "/timeline?region={region}",
    "/timeline?region={region}&os_tag={tag}",
    "/timeline?region={region}&since={month}&until={later}",
    "/timeline?region={region}&instance_type={type}",
    "/timeline.json?region={region}",
    "/matrix?region={region}",
    "/matrix?region={region}&at={later}",
    "/image?image={image}",
    "/image?image={tag}&region={region}",
    "/type?instance_type={type}&region={region}",
    "/type?instance_type={type}",
    "/changes",
    "/changes?region={region}",
    "/changes?image={image}",
    "/changes?instance_type={type}",
    "/changes.atom",
    "/compare?region={region}",
    "/compare?region={region}&from={month}&to={later}",
    "/search?q={tag}",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the rounds of one page took."""

    times_ms: list[float]
    size: float

    @property
    def p50_ms(self) -> float:
        """Return what half of the rounds kept within."""
        return statistics.median(self.times_ms)


def _client(database: Database, sample: Sample) -> FlaskClient:
    source = Source(
        settings=Settings(regions=("all",)),
        database=database,
        telemetry=Telemetry(),
        is_alive=lambda: True,
        next_run_at=lambda: None,
        notifications=dict,
        now=lambda: sample.end,
    )
    return create_app(source).test_client()


def _draw(sample: Sample) -> dict[str, Any]:
    values = sample.draw()
    return values | {"month": f"{values['then']}Z", "later": f"{values['later']}Z"}


def measured(client: FlaskClient, address: str, sample: Sample, rounds: int) -> Figures:
    """Ask for a page again and again about other things, after some rounds that do not count."""
    times_ms, sizes = [], []
    for number in range(-WARM_UP, rounds):
        url = address.format(**_draw(sample)).replace(" ", "T")
        begun = time.perf_counter()
        answer = client.get(url, headers={"Host": "localhost"})
        spent_ms = (time.perf_counter() - begun) * 1000
        if answer.status_code != 200:
            raise SystemExit(f"{url}: {answer.status_code}: {answer.get_data(as_text=True)[:300]}")
        if number >= 0:
            times_ms.append(spent_ms)
            sizes.append(len(answer.data))
    return Figures(times_ms, statistics.median(sizes))


def measure(url: str, rounds: int, only: str) -> None:
    """Measure one database and print a table."""
    database = Database(url, is_read_only=True)
    with database.reading() as connection:
        sample = sample_of(connection)
    client = _client(database, sample)
    print(f"\n{database.label}, load {os.getloadavg()[0]:.1f}\n")
    print("| page | kB | p50 ms | longest ms | p50 / reach |\n|---|---|---|---|---|")
    for address in PAGES:
        if only in address:
            found = measured(client, address, sample, rounds)
            figures = f"{found.size / 1000:.0f} | {found.p50_ms:.0f} | {max(found.times_ms):.0f}"
            print(f"| `{address}` | {figures} | {found.p50_ms / REACH_MS:.2f} |", flush=True)
    database.close()


def main() -> None:
    """Measure the databases named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("databases", nargs="*", metavar="DATABASE", default=list(DEFAULT_SERVERS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="pages that have this in their address")
    options = parser.parse_args()
    for name in options.databases:
        measure(lasting_url(name) if name in DEFAULT_SERVERS else name, options.rounds, options.only)


if __name__ == "__main__":
    main()
