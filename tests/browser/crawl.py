"""Following links over plain HTTP: every address that the dashboard names answers with what its ending promises."""

import csv
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import StringIO
from urllib.parse import parse_qs, urldefrag, urljoin, urlsplit
from xml.etree import ElementTree as ET

import requests

OF_A_KIND = 5
"""How many addresses with the same path and the same parameters are asked; a region alone has a hundred types."""


@dataclass
class Crawl:
    """What was asked, and what was wrong with it."""

    pages: dict[str, str] = field(default_factory=dict)
    """Pages by their addresses, in the order in which they were found."""
    others: list[str] = field(default_factory=list)
    """The addresses of twins, feeds and parts of pages."""
    troubles: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Collects the addresses and the ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"}:
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def crawl(url: str, starts: Iterable[str]) -> Crawl:
    """Follow all links from the starts, a few of each kind of address."""
    found = Crawl()
    waiting = deque(f"{url}{start}" for start in starts)
    seen = set(waiting)
    kinds: Counter[tuple[str, frozenset[str]]] = Counter()
    with requests.Session() as session:
        while waiting:
            asked = waiting.popleft()
            answer = session.get(asked, timeout=60)
            for link in _checked(found, url, answer):
                kind = _kind_of(link)
                if link not in seen and kinds[kind] < OF_A_KIND:
                    seen.add(link)
                    kinds[kind] += 1
                    waiting.append(link)
    return found


def _kind_of(link: str) -> tuple[str, frozenset[str]]:
    parts = urlsplit(link)
    return parts.path, frozenset(parse_qs(parts.query))


def _checked(found: Crawl, url: str, answer: requests.Response) -> Iterator[str]:
    """Note an answer and its troubles; give the addresses of this server that it names."""
    address = answer.url.removeprefix(url)
    if answer.status_code != 200:
        found.troubles.append(f"{answer.status_code} {address}: {answer.text[:300]}")
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    if kind != "text/html":
        found.others.append(address)
        if kind in READERS and (trouble := READERS[kind](answer.text)):
            found.troubles.append(f"{address}: {trouble}")
        return
    found.pages[address] = answer.text
    reader = _Reader(answer.text)
    found.troubles += [f"{address}: the id {name} stands there twice" for name in _repeated(reader.ids)]
    for link in reader.links:
        target, fragment = urldefrag(urljoin(answer.url, link))
        if fragment and target == answer.url and fragment not in reader.ids:
            found.troubles.append(f"{address}: leads to #{fragment}, which is not there")
        if urlsplit(target)[:2] != urlsplit(url)[:2]:
            found.troubles.append(f"{address}: leads elsewhere: {link}")
        else:
            yield target


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _trouble_of_json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    return ""


def _trouble_of_csv(text: str) -> str:
    header, *rows = csv.reader(StringIO(text))
    if not all(name.replace("_", "").isalpha() for name in header):
        return f"no header: {header}"
    return next((f"a row is not as long as the header: {row}" for row in rows if row and len(row) != len(header)), "")


def _trouble_of_xml(text: str) -> str:
    try:
        ET.fromstring(text)
    except ET.ParseError as error:
        return f"no XML: {error}"
    return ""


READERS: Mapping[str, Callable[[str], str]] = {
    "application/json": _trouble_of_json,
    "text/csv": _trouble_of_csv,
    "application/atom+xml": _trouble_of_xml,
}
"""What is wrong with an answer, by its type; empty where it is sound."""
