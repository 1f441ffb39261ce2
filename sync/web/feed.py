"""The Atom feed of the changes: an entry per run and region, with its sentences."""

import html
import io
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from sync.render import counted, iso
from sync.store.groups import find_run_ids, list_change_groups
from sync.store.history import find_first_observation
from sync.web.pages.changes import FILTERING, asked_of
from sync.web.visit import Answer, Page, Visit, address
from sync.web.words import Told, told_changes

ENTRIES = 60  # two runs that find trouble in all of some thirty regions: readers ask every hour or so

OURS = uuid.UUID("6f1b2b0e-6d0e-5c58-9a0b-7d5f3f0a4c11")
"""The name space of the ids of our feeds and entries."""

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MIDNIGHT_OF_UNIX = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one run recorded in one region."""

    key: str
    """Its id: the same under every name of the server; another one with a filter, which leaves out parts of it."""
    title: str
    summary: str
    """The sentences as HTML, escaped, as feed readers take it."""
    path: str
    recorded_at: datetime


def answer(visit: Visit) -> Answer:
    """Return the newest entries of a filter."""
    asked = asked_of(visit)
    run_ids = find_run_ids(visit.connection, asked.wanted, ENTRIES, period=asked.period)
    groups = list_change_groups(visit.connection, asked.wanted, run_ids, period=asked.period)
    entries = [entry for batch in told_changes(groups) for entry in _entries_of(visit, batch.lines)][:ENTRIES]
    first = find_first_observation(visit.connection)
    return Answer(lambda: groups, shown={"entries": entries, "first_observed_at": first})


def _entries_of(visit: Visit, lines: list[Told]) -> Iterator[Entry]:
    for region_id in sorted({line.row["region_id"] for line in lines}):
        of_region = [line for line in lines if line.row["region_id"] == region_id]
        row = of_region[0].row
        sentences = [clean(_sentence(line, visit)) for line in of_region]
        more = f", and {counted(len(sentences) - 1, 'more change')}" if len(sentences) > 1 else ""
        yield Entry(
            _urn(f"run {row['run_id']} of {iso(row['run_started_at'])} in {region_id}{_filter_text(visit)}"),
            clean(of_region[0].sentence) + more,
            "<br>\n".join(html.escape(sentence) for sentence in sentences),
            address(visit.page, **visit.here(region=region_id, before=row["run_id"] + 1)),
            max(line.row["recorded_at"] for line in of_region),
        )


def _sentence(line: Told, visit: Visit) -> str:
    """Return a sentence, which says when it happened where that was not in the run that recorded it."""
    if not line.is_late:
        return line.sentence
    first, last = line.row["last_seen_at"], line.row["last_detected_at"]
    when = f"between {visit.show(first)} and {visit.show(last)}" if first else f"until {visit.show(last)}"
    return f"{line.sentence}; happened {when} ({visit.settings.zone.key}), believed only in this run"


def atom_of(answered: Answer, visit: Visit, root: str) -> str:
    """Return the feed; ``root`` is the address under which its reader asked, which ends with a slash."""
    from feedgenerator import Atom1Feed

    kept = visit.here()
    first: datetime | None = answered.shown["first_observed_at"]
    feed: Any = Atom1Feed(
        title=clean(_title(visit)),
        link=_absolute(root, address(visit.page, **kept)),
        description=None,
        language="en",
        author_name="ehpc-image-sync",
        feed_url=_absolute(root, address(visit.page, ".atom", **kept)),
        feed_guid=_urn(f"changes {'' if first is None else iso(first)}{_filter_text(visit)}"),
    )
    entries: list[Entry] = answered.shown["entries"]
    for entry in entries:
        feed.add_item(
            title=entry.title,
            link=_absolute(root, entry.path),
            description=entry.summary,
            unique_id=entry.key,
            updateddate=entry.recorded_at,
        )
    # The library takes the present where there are no entries: readers would find news in every answer.
    newest = max((entry.recorded_at for entry in entries), default=first or MIDNIGHT_OF_UNIX)
    feed.latest_post_date = lambda: newest
    text = io.StringIO()
    feed.write(text, "utf-8")
    return text.getvalue()


def clean(text: str) -> str:
    """Return a text with what XML cannot hold replaced."""
    return NOT_IN_XML.sub("\ufffd", text)


def _title(visit: Visit) -> str:
    chosen = [f"{name.replace('_', ' ')} {' or '.join(visit.all_of(name))}" for name in FILTERING if visit.all_of(name)]
    return "E-HPC image changes" + (f": {', '.join(chosen)}" if chosen else "")


def _filter_text(visit: Visit) -> str:
    """Return the filter of a feed as a part of ids; empty where it has none."""
    return f" {urlencode(sorted(visit.here().items()), doseq=True)}".rstrip()


def _absolute(root: str, path: str) -> str:
    return f"{root.rstrip('/')}{path}"


def _urn(name: str) -> str:
    return uuid.uuid5(OURS, name).urn


FEED = Page("changes", "Changes", FILTERING, answer)
"""``/changes.atom``: like the page, without its paging."""
