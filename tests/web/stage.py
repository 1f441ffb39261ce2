"""The application on a port of its own, over a history that tests know, and what it answers."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sync.config import Settings
from sync.store.database import Database
from sync.web.app import Source, create_app
from sync.web.metrics import Telemetry
from sync.web.server import Server
from tests.cli.story import at

READING_S = 5  # tests of outages let a reading hang on purpose; none of them needs its connection any more

REGIONS = ("cn-beijing", "cn-hangzhou")

SHORTLY_AFTER = at(3.25)
"""A quarter of an hour after the story's last run."""

Labels = Mapping[str, str]


def a_source(database: Database, **fields: object) -> Source:
    """Return a source over a history, shortly after the story's end; fields that are not given have good defaults."""
    source = Source(
        settings=Settings(regions=REGIONS),
        database=database,
        telemetry=Telemetry(),
        is_alive=lambda: True,
        next_run_at=lambda: None,
        notifications=dict,
        now=lambda: SHORTLY_AFTER,
    )
    return replace(source, **fields)  # type: ignore[arg-type]


class Setting:
    """A clock that the test sets."""

    def __init__(self, now: datetime = SHORTLY_AFTER) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the set time."""
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@contextmanager
def served(source: Source, **options: float) -> Iterator[str]:
    """Give the URL under which a source is served."""
    server = Server(create_app(source, **options), "127.0.0.1", 0)
    server.start()
    try:
        yield server.url
    finally:
        server.close()
        # A reading that goes on would give its connection back to a database that the test has closed meanwhile.
        for thread in threading.enumerate():
            if thread.name.startswith("web-reading"):
                thread.join(READING_S)


def get(url: str, path: str, **headers: str) -> requests.Response:
    """Return the answer to one request."""
    return requests.get(f"{url}{path}", headers=headers, timeout=30)


@dataclass(frozen=True)
class Scrape:
    """Everything that one scrape told."""

    samples: tuple[Sample, ...]
    helps: Mapping[str, str]

    @property
    def names(self) -> set[str]:
        """Return the names of all families of ours that have samples."""
        ours = {sample.name for sample in self.samples if sample.name.startswith("ehpc_sync_")}
        parts = ("_bucket", "_count", "_sum")
        return {next((name.removesuffix(part) for part in parts if name.endswith(part)), name) for name in ours}

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric by those of its labels, in the order of the labels' names."""
        found = [sample for sample in self.samples if sample.name == name]
        keys = [tuple(value for _, value in sorted(sample.labels.items())) for sample in found]
        assert len(set(keys)) == len(keys), f"{name} has two samples with the same labels"
        return {key: sample.value for key, sample in zip(keys, found, strict=True)}

    def value(self, name: str) -> float:
        """Return the value of a metric without labels."""
        return self.of(name)[()]

    def labels_of(self, name: str) -> set[str]:
        """Return the names of a metric's labels, those of histograms aside."""
        found = {label for sample in self.samples if sample.name in {name, f"{name}_bucket"} for label in sample.labels}
        return found - {"le"}


def scrape(url: str) -> Scrape:
    """Return what ``/metrics`` tells."""
    answer = get(url, "/metrics")
    assert answer.status_code == 200
    families = list(text_string_to_metric_families(answer.text))
    return Scrape(
        tuple(sample for family in families for sample in family.samples),
        {family.name: family.documentation for family in families},
    )


def health_of(url: str) -> tuple[int, list[str]]:
    """Return the code and the reasons of ``/healthz``."""
    answer = get(url, "/healthz")
    body = answer.json()
    assert body["status"] == ("ok" if answer.status_code == 200 else "unhealthy")
    return answer.status_code, body["reasons"]
