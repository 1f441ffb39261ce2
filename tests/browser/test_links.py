"""Every address that the dashboard names leads somewhere, and to this server."""

from urllib.parse import urlsplit

from sync.web.pages import PAGES
from tests.browser.crawl import crawl
from tests.browser.examples import EXAMPLES


def test_every_link_answers_with_what_it_promises(demo: str) -> None:
    found = crawl(demo, [f"/{page.name}{EXAMPLES[page.name][0]}" for page in PAGES])
    assert found.troubles == []
    assert {urlsplit(address).path for address in found.pages} == {f"/{page.name}" for page in PAGES}
    twins = {f"/{page.name}{suffix}" for page in PAGES for suffix in (".json", *([".csv"] if page.is_rows else []))}
    assert twins <= {urlsplit(address).path for address in found.others}


def test_every_link_answers_where_gaps_and_failures_are_shown(story: str) -> None:
    found = crawl(story, ["/overview"])
    assert found.troubles == []
    assert found.pages
