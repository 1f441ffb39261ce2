"""Every page, on a small and a large screen, light and dark: quiet, at home, readable, and open to everybody."""

import re

import pytest
import requests

from sync.web.pages import PAGES
from sync.web.visit import Page
from tests.browser.conftest import Opener
from tests.browser.examples import EXAMPLES
from tests.browser.window import SCHEMES, WIDTHS

WALK = [
    (f"/{page.name}{query}", width)
    for page in PAGES
    for number, query in enumerate(EXAMPLES.get(page.name, ()))
    for width in (WIDTHS if number == 0 else WIDTHS[:1])
]
"""Each page's first example on both screens, the others on the small one, where more goes wrong."""


def test_every_page_has_an_example_address() -> None:
    assert {page.name for page in PAGES} - set(EXAMPLES) == set()


@pytest.mark.slow
@pytest.mark.parametrize(("address", "width"), WALK)
def test_a_page_is_quiet_at_home_readable_and_open_to_everybody(
    demo: str, open_window: Opener, address: str, width: int
) -> None:
    window = open_window(demo, width=width)
    page = window.open(address)
    assert (page.get_by_role("main").count(), page.locator("h1").count()) == (1, 1)
    for scheme in SCHEMES:
        window.wear(scheme)
        assert window.standing_out() == []
        assert window.barriers() == []
    assert window.troubles == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_gaps_and_failures_are_open_to_everybody_too(story: str, open_window: Opener, page: Page) -> None:
    window = open_window(story, width=360, scheme="dark")
    window.page.goto(f"{story}/{page.name}")
    assert window.standing_out() == []
    assert window.barriers() == []


def test_a_refusal_is_open_to_everybody_too(demo: str, open_window: Opener) -> None:
    window = open_window(demo, width=360)
    window.page.goto(f"{demo}/overview?bogus=1")
    assert window.page.get_by_role("alert").count() == 1
    assert window.standing_out() == []
    assert window.barriers() == []


def test_titles_tell_pages_apart(demo: str) -> None:
    pages = [requests.get(f"{demo}/{page.name}{EXAMPLES[page.name][0]}", timeout=60).text for page in PAGES]
    titles = [re.findall(r"<title>(.+?)</title>", page) for page in pages]
    assert all(len(found) == 1 for found in titles)
    assert len({found[0] for found in titles}) == len(PAGES), titles
