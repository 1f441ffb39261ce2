"""Names that attack the page that shows them: they stand there as they are, and nothing else happens."""

from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Page as Shown

from sync.web.pages import PAGES
from sync.web.visit import Page
from tests.browser.conftest import Opener
from tests.browser.crawl import Crawl, crawl
from tests.browser.hostile import ATTACKS, IMAGES, REGIONS, TYPES, a_long_one

STARTS = [
    *(f"/{page.name}" for page in PAGES),
    "/timeline?region=*&since=2024-03-01T11:00Z",
    "/compare?region=*&from=2024-03-01T12:10Z&to=2024-03-01T14:10Z",
    "/search?q=window",
    "/changes?kind=type_retired",
]

FOLLOWED_BY = """
(links) => links.map((link) => {
  const text = document.createRange();
  text.selectNodeContents(link.nextSibling);
  const [name, rest] = [link.getBoundingClientRect(), text.getBoundingClientRect()];
  return rest.left >= name.right - 1 ? "right" : "left";
})
"""
"""On which side of each link the text stands that comes after it."""

BARS = ".barlayer .point path"

VISITED_OF_EACH_PAGE = 2

INTRUDERS = """
() => [...document.querySelectorAll("*")].flatMap((element) => [
  ...[...element.attributes].filter(({ name, value }) =>
    name.startsWith("on") || (["href", "src", "action"].includes(name) && /^\\s*javascript:/i.test(value))
  ).map(({ name, value }) => `${element.tagName} ${name}=${value}`),
  ...(["B", "I", "IMG"].includes(element.tagName) ? [element.outerHTML] : []),
  ...(element.tagName === "SCRIPT" && !element.src && element.type !== "application/json" ? [element.outerHTML] : []),
])
"""
"""Elements and attributes that no template of ours has."""


@pytest.fixture(scope="module")
def found(hostile: str) -> Crawl:
    """All that links lead to."""
    return crawl(hostile, STARTS)


def some_of(page: Page, found: Crawl) -> list[str]:
    """Return a few addresses of a page, the longest: they name most."""
    return sorted(
        (address for address in found.pages if urlsplit(address).path == f"/{page.name}"), key=len, reverse=True
    )[:VISITED_OF_EACH_PAGE]


@pytest.mark.slow
def test_every_address_of_hostile_names_answers(found: Crawl) -> None:
    assert found.troubles == []
    assert {urlsplit(address).path for address in found.pages} == {f"/{page.name}" for page in PAGES}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_hostile_names_do_nothing_and_fit_on_a_small_screen(
    hostile: str, found: Crawl, open_window: Opener, page: Page
) -> None:
    window = open_window(hostile, width=360)
    for address in some_of(page, found):
        shown = window.open(address)
        _unfold_and_touch(shown)
        assert shown.evaluate("window.hit") is None, address
        assert shown.evaluate(INTRUDERS) == [], address
        assert window.standing_out() == [], address
    assert window.troubles == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_very_long_name_does_not_widen_the_page(hostile: str, open_window: Opener, page: Page) -> None:
    window = open_window(hostile, width=360)
    asked = {"image": a_long_one().image_id, "instance_type": TYPES[-1], "q": a_long_one().image_id[:128]}
    names = [name for name in asked if name in page.parameters]
    for name in names or [""]:
        shown = window.open(f"/{page.name}?{urlencode({name: asked[name]} if name else {})}")
        _unfold_and_touch(shown)
        assert window.standing_out() == []
    assert window.barriers() == []
    assert window.troubles == []


def _unfold_and_touch(shown: Shown) -> None:
    """Open what is folded and move the pointer over the names and the bars."""
    shown.evaluate("document.querySelectorAll('details').forEach((entry) => { entry.open = true; })")
    for number in range(min(shown.locator(BARS).count(), 5)):
        shown.locator(BARS).nth(number).hover(force=True)
    shown.locator("main a").first.hover()


@pytest.mark.slow
def test_every_hostile_name_is_read_as_it_is(found: Crawl) -> None:
    told = " ".join(map(_words_of, found.pages.values()))
    names = [*REGIONS, *TYPES, *ATTACKS, *(image.os_name_en for image in IMAGES), *(image.image_id for image in IMAGES)]
    assert [name for name in names if " ".join(name.split()) not in told] == []


def test_a_refusal_tells_hostile_names_as_they_are(hostile: str, open_window: Opener) -> None:
    page = open_window(hostile, width=360).page
    for attack in ATTACKS:
        page.goto(f"{hostile}/overview?{urlencode({attack: attack})}")
        assert repr(attack) in page.get_by_role("alert").inner_text()
        assert page.evaluate("window.hit") is None
        assert page.evaluate(INTRUDERS) == []


def test_a_name_that_turns_the_direction_of_writing_turns_only_itself(hostile: str, open_window: Opener) -> None:
    page = open_window(hostile).open("/compare?region=*&from=2024-03-01T12:10Z&to=2024-03-01T14:10Z")
    turned = page.locator("main li a", has_text="\u202e")
    assert turned.count() > 0
    assert turned.evaluate_all(FOLLOWED_BY) == ["right"] * turned.count()


@pytest.mark.slow
def test_a_picture_shows_hostile_names_as_they_are(hostile: str, open_window: Opener) -> None:
    page = open_window(hostile).open("/timeline?region=cn-hangzhou")
    shown = {" ".join(text.split()) for text in page.locator(".plot .annotation-text").all_text_contents()}
    names = {" ".join(image.os_name_en.split()) for image in IMAGES if len(image.os_name_en) < 60}
    assert names - shown == set()


def _words_of(page: str) -> str:
    """Return what a reader sees of a page, with single blanks."""
    reader = _Words()
    reader.feed(page)
    return " ".join("".join(reader.words).split())


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)
