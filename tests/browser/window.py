"""A browser's window that notes all that goes wrong in it, and what is asked of the page that it shows."""

from typing import Literal
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, Route

WIDTHS = (360, 1600)
Scheme = Literal["light", "dark"]

SCHEMES: tuple[Scheme, ...] = ("light", "dark")

# A console error tells of a violation too, but not on which element.
NOTE_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
  `policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""

# Elements that stand out to the right, but for those inside a box that scrolls by itself.
STANDING_OUT = """
() => {
  const root = document.scrollingElement;
  if (root.scrollWidth <= innerWidth) return [];
  const isScrolled = (element) => {
    for (let box = element.parentElement; box && box !== document.body; box = box.parentElement) {
      if (getComputedStyle(box).overflowX !== "visible") return true;
    }
    return false;
  };
  const isOut = (element) => element.getBoundingClientRect().right > innerWidth + 1
    || (element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1);
  const out = [...document.querySelectorAll("main *")].filter((element) => isOut(element) && !isScrolled(element));
  const told = out.map((box) => `${box.tagName}.${box.className} ${box.textContent.trim().slice(0, 60)}`);
  return [`the page is ${root.scrollWidth} px wide on ${innerWidth}`, ...told.slice(-8)];
}
"""

RULES = {"resultTypes": ["violations"]}

LEFT = "net::ERR_ABORTED"
"""How a request fails whose page was left before its answer came."""

DRAWN = "figure.chart .plot .main-svg"
"""What plotly adds to the place of a picture."""


class Window:
    """A window of its own context; ``troubles`` holds all that no page may cause."""

    def __init__(
        self, browser: Browser, url: str, *, width: int = 1600, scheme: Scheme = "light", has_scripts: bool = True
    ) -> None:
        self.url = url
        self.troubles: list[str] = []
        self._has_scripts = has_scripts
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=has_scripts
        )
        self.context.route(lambda asked: urlsplit(asked).netloc != urlsplit(url).netloc, self._refuse)
        self.context.on("console", self._note_message)
        self.context.on("weberror", lambda event: self.troubles.append(f"error: {event.error}"))
        self.context.on("requestfailed", self._note_failure)
        self.context.on("dialog", self._note_dialog)
        self.context.add_init_script(NOTE_VIOLATIONS)
        self.page: Page = self.context.new_page()

    def _refuse(self, route: Route) -> None:
        """Let no request leave this machine."""
        self.troubles.append(f"asks elsewhere: {route.request.url}")
        route.abort()

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(f"{message.type}: {message.text}")

    def _note_dialog(self, dialog: Dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note_failure(self, request: Request) -> None:
        if request.failure != LEFT:
            self.troubles.append(f"failed: {request.url}: {request.failure}")

    def open(self, address: str) -> Page:
        """Open an address of the dashboard and wait until its pictures are drawn."""
        answer = self.page.goto(f"{self.url}{address}")
        assert answer
        if answer.status != 200:
            self.troubles.append(f"{answer.status} {address}")
        if self._has_scripts and self.page.locator("figure.chart").count():
            self.page.locator(DRAWN).first.wait_for()
        return self.page

    def wear(self, scheme: Scheme) -> None:
        """Change the colour scheme while the page is open."""
        self.page.emulate_media(color_scheme=scheme)

    def standing_out(self) -> list[str]:
        """Return what makes the page wider than the window."""
        found: list[str] = self.page.evaluate(STANDING_OUT)
        return found

    def barriers(self) -> list[str]:
        """Return what axe-core finds, at least of moderate weight: rule, weight, and the elements."""
        self.page.evaluate(AXE_SCRIPT)  # not by a script element, which the policy forbids
        found = self.page.evaluate("(rules) => axe.run(rules)", RULES)
        return [
            f"{entry['id']} ({entry['impact']}): {', '.join(str(node['target']) for node in entry['nodes'][:4])}"
            for entry in found["violations"]
            if entry["impact"] != "minor"
        ]

    def close(self) -> None:
        """Close the window."""
        self.context.close()
