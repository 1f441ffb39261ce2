"""Everything can be reached and used with the keyboard alone."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from sync.web.pages import PAGES
from sync.web.visit import Page
from tests.browser.conftest import Opener
from tests.browser.examples import EXAMPLES

MOST_STOPS = 40

STOP = """
() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const { width, height, right, bottom } = element.getBoundingClientRect();
  const isThere = width > 0 && height > 0 && right > 0 && bottom > 0;
  return {
    name: element.name || element.textContent.trim() || element.ariaLabel || "",
    tag: element.tagName,
    isSeen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && isThere,
  };
}
"""

IS_OPEN = "(summary) => summary.parentElement.open"


def test_tab_goes_from_the_skip_link_over_navigation_and_search_to_the_filters(demo: str, open_window: Opener) -> None:
    window = open_window(demo)
    page = window.open("/timeline")
    named = [entry.title for entry in PAGES if entry.title]
    fields = ["region", "instance_type", "image", "os_tag"]
    expected = ["Skip to the content", "E-HPC images", *named, "q", "Find", *fields]
    stops = []
    for _ in expected:
        page.keyboard.press("Tab")
        stops.append(page.evaluate(STOP)["name"])
    assert stops == expected


def test_the_skip_link_comes_into_sight_and_leads_to_the_content(demo: str, open_window: Opener) -> None:
    page = open_window(demo).open("/overview")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    box = skip.bounding_box()
    assert box
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_whatever_has_the_focus_is_seen_to_have_it(demo: str, open_window: Opener, page: Page) -> None:
    window = open_window(demo, width=360)
    shown = window.open(f"/{page.name}{EXAMPLES[page.name][0]}")
    stops: list[dict[str, Any]] = []
    while len(stops) < MOST_STOPS:
        shown.keyboard.press("Tab")
        stops.append(shown.evaluate(STOP))
        if stops[-1]["tag"] == "BODY":
            break
    assert len(stops) > len(PAGES)
    assert [stop for stop in stops if not stop["isSeen"] and stop["tag"] != "BODY"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_folded_opens_and_closes_with_enter(demo: str, open_window: Opener, page: Page) -> None:
    shown = open_window(demo).open(f"/{page.name}{EXAMPLES[page.name][0]}")
    folded = shown.locator("main details > summary:visible")
    for number in range(min(folded.count(), 3)):
        was_open = folded.nth(number).evaluate(IS_OPEN)
        folded.nth(number).focus()
        shown.keyboard.press("Enter")
        assert folded.nth(number).evaluate(IS_OPEN) is not was_open


def test_filters_are_sent_with_enter_and_show_what_a_shared_address_shows(demo: str, open_window: Opener) -> None:
    window = open_window(demo)
    page = window.open("/timeline")
    page.get_by_label("instance type", exact=True).fill("ecs.c7.*")
    page.keyboard.press("Enter")
    page.wait_for_url("**instance_type=*")
    asked = dict(parse_qsl(urlsplit(page.url).query))
    assert asked == {"region": "ap-southeast-1", "instance_type": "ecs.c7.*"}
    shown = page.get_by_role("main").inner_text()
    shared = window.open("/timeline?region=ap-southeast-1&instance_type=ecs.c7.*")
    assert shared.get_by_role("main").inner_text() == shown
    assert window.troubles == []


def test_a_search_is_sent_with_enter(demo: str, open_window: Opener) -> None:
    page = open_window(demo).open("/overview")
    page.get_by_role("searchbox").focus()
    page.keyboard.type("rocky")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=rocky")
    assert page.locator("h1").count() == 1
