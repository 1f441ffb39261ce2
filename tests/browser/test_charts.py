"""Pictures show exactly what their page holds, can be zoomed, follow the colour scheme, and can be done without."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page

from sync.web.pages import PAGES
from tests.browser.conftest import Opener
from tests.browser.examples import EXAMPLES
from tests.browser.window import DRAWN, Window

WITH_PICTURES = [
    pytest.param(f"/{page.name}{EXAMPLES[page.name][0]}", id=page.name)
    for page in PAGES
    if page.name in {"timeline", "image", "type"}
]

ALL_OF_THE_STORY = "/timeline?region=*&since=2024-03-01T11:00Z"

ROWS_OF_THE_STORY = 10
"""Of the view image_history: 6 of the baseline, 2 of Rocky Linux, 1 of Ubuntu's other name, 1 of the launched type."""

PATIENCE_MS = 10_000  # a picture takes a fraction of a second; a machine with many tests at once takes longer

BARS = ".barlayer .trace.bars .point path"
MARKERS = ".scatterlayer .trace.scatter .points path"
RANGE = "document.querySelector('.plot')._fullLayout.xaxis.range.map((time) => new Date(time).getTime())"
FILL = f"getComputedStyle(document.querySelector('{BARS}')).fill"


def traces_of(page: Page) -> list[dict[str, Any]]:
    """Return the traces of the page's first picture."""
    text = page.locator("figure.chart script.figure").first.text_content()
    traces: list[dict[str, Any]] = json.loads(text or "{}")["data"]
    return traces


def count_of(page: Page, **wanted: str) -> int:
    """Return how many points the page holds in the traces with these properties."""
    traces = [trace for trace in traces_of(page) if wanted.items() <= trace.items()]
    assert traces
    return sum(len(trace["y"]) for trace in traces)


def hatched(page: Page) -> int:
    """Return how many of the drawn bars are hatched."""
    count: int = page.locator(BARS).evaluate_all(
        "(paths) => paths.filter((path) => getComputedStyle(path).fill.startsWith('url(')).length"
    )
    return count


def becomes(page: Page, condition: str) -> bool:
    """Return whether a condition holds within seconds; Playwright's own wait uses eval, which the policy forbids."""
    held: bool = page.evaluate(f"""() => new Promise((resolve) => {{
      const end = performance.now() + {PATIENCE_MS};
      const look = () => {condition} ? resolve(true) : performance.now() > end ? resolve(false) : setTimeout(look, 20);
      look();
    }})""")
    return held


@pytest.mark.slow
@pytest.mark.parametrize("address", WITH_PICTURES)
def test_as_many_bars_are_drawn_as_the_page_holds(demo: str, open_window: Opener, address: str) -> None:
    page = open_window(demo).open(address)
    figure = page.locator("figure.chart").first
    assert figure.locator(BARS).count() == count_of(page, type="bar") > 0
    assert figure.locator(MARKERS).count() == count_of(page, mode="markers")


@pytest.mark.slow
def test_the_timeline_draws_a_bar_for_each_row_a_hatched_one_for_each_gap_and_marks_the_baseline(
    story: str, open_window: Opener
) -> None:
    window = open_window(story)
    page = window.open(ALL_OF_THE_STORY)
    told = page.request.get(f"{story}{ALL_OF_THE_STORY.replace('/timeline', '/timeline.json')}").json()
    assert sum(len(bar["instance_types"]) for bar in told["bars"]) == ROWS_OF_THE_STORY
    assert count_of(page, name="available") == len(told["bars"])
    assert hatched(page) == count_of(page, name="not observed") > 0
    assert page.locator(BARS).count() == count_of(page, type="bar")
    assert page.locator(MARKERS).count() == sum(bar["from_baseline"] for bar in told["bars"])
    assert window.troubles == []


@pytest.mark.slow
@pytest.mark.parametrize("address", WITH_PICTURES)
def test_dragging_zooms_in_and_a_double_click_shows_all_again(demo: str, open_window: Opener, address: str) -> None:
    window = open_window(demo)
    page = window.open(address)
    begin, end = page.evaluate(RANGE)
    _drag(window, 0.4, 0.6)
    assert becomes(page, f"{RANGE}[1] - {RANGE}[0] < {(end - begin) / 2}")
    zoomed = page.evaluate(RANGE)
    assert begin < zoomed[0] < zoomed[1] < end
    page.locator("figure.chart .nsewdrag").first.dblclick()
    assert becomes(page, f"{RANGE}[1] - {RANGE}[0] > {(end - begin) * 0.99}")
    assert page.evaluate(RANGE) == pytest.approx([begin, end], abs=1000)
    assert window.troubles == []


@pytest.mark.slow
@pytest.mark.parametrize("address", WITH_PICTURES)
@pytest.mark.parametrize("part", [(0.4, 0.6), (0.5, -0.02), (0.5, 1.02)], ids=["middle", "beginning", "end"])
def test_a_zoomed_part_has_a_page_of_its_own(
    demo: str, open_window: Opener, address: str, part: tuple[float, float]
) -> None:
    window = open_window(demo)
    page = window.open(address)
    link = page.get_by_role("link", name="This part as a page of its own")
    assert link.count() == 0
    begin, end = page.evaluate(RANGE)
    _drag(window, *part)
    assert becomes(page, f"{RANGE}[1] - {RANGE}[0] < {(end - begin) * 0.8}")
    zoomed = page.evaluate(RANGE)
    link.first.click()
    assert becomes(
        page, f"document.querySelector('.plot')?._fullLayout && {RANGE}[1] - {RANGE}[0] < {(end - begin) * 0.8}"
    )
    assert page.evaluate(RANGE) == pytest.approx(zoomed, abs=(end - begin) / 30)
    assert ("until=" in page.url, "since=" in page.url) == (part[1] < 1, part[1] > 0)
    assert window.troubles == []


@pytest.mark.slow
def test_the_link_to_a_part_is_there_only_while_a_part_is_shown(demo: str, open_window: Opener) -> None:
    window = open_window(demo)
    page = window.open("/timeline")
    link = page.get_by_role("link", name="This part as a page of its own")
    _drag(window, 0.995, 1.02)  # beyond the last observation there is nothing to see
    page.wait_for_timeout(200)
    assert link.count() == 0
    page.locator("figure.chart .nsewdrag").first.dblclick()
    _drag(window, 0.4, 0.6)
    link.first.wait_for()
    page.locator("figure.chart .nsewdrag").first.dblclick()
    assert becomes(page, "document.querySelector('.zoomed').hidden")
    assert window.troubles == []


def _drag(window: Window, begin: float, end: float) -> None:
    """Drag over a picture, from and to so many of its widths."""
    page = window.page
    area = page.locator("figure.chart .nsewdrag").first
    area.evaluate("(area) => area.scrollIntoView({ block: 'start' })")
    box = area.bounding_box()
    assert box
    middle = box["y"] + min(box["height"], 100) / 2
    page.mouse.move(box["x"] + box["width"] * begin, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (begin + end) / 2, middle, steps=4)
    page.mouse.move(box["x"] + box["width"] * end, middle, steps=4)
    page.mouse.up()


@pytest.mark.slow
def test_pictures_follow_the_colour_scheme_while_they_are_open(demo: str, open_window: Opener) -> None:
    window = open_window(demo)
    page = window.open("/timeline")
    light, count = page.evaluate(FILL), page.locator(BARS).count()
    page.emulate_media(color_scheme="dark")
    assert becomes(page, f"{FILL} !== '{light}'")
    assert page.locator(BARS).count() == count
    page.emulate_media(color_scheme="light")
    assert becomes(page, f"{FILL} === '{light}'")
    assert window.troubles == []


@pytest.mark.slow
@pytest.mark.parametrize("address", WITH_PICTURES)
def test_without_scripts_the_same_stands_in_a_table(demo: str, open_window: Opener, address: str) -> None:
    window = open_window(demo, width=360, has_scripts=False)
    page = window.open(address)
    assert page.locator(DRAWN).count() == 0
    table = page.locator("table", has=page.get_by_role("columnheader", name="from", include_hidden=True)).first
    assert table.locator("tbody tr").count() == count_of(page, name="available")
    page.locator("details", has=table).locator("summary").first.click()
    assert table.is_visible()
    assert window.troubles == []
