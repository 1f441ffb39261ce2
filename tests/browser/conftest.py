"""The browser, and the histories that it looks at."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Browser, sync_playwright

from sync.config import Settings
from sync.demo import play
from sync.inventory import utc_now
from sync.store.database import Database
from tests.browser.hostile import record_hostile
from tests.browser.window import Window
from tests.cli.story import record_story
from tests.web.stage import a_source, served

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

FLAGS = (
    "--no-sandbox",  # which Chromium cannot have as root
    "--disable-dev-shm-usage",  # containers have little of it
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

Opener = Callable[..., Window]


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(f"{reason}; in CI there must be one")
    pytest.skip(reason)


# Of each module: while Playwright is open, no other code of this thread can run an event loop of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The installed browser; Playwright's own is never asked for."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        _unavailable(f"no browser is installed: none of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def open_window(browser: Browser) -> Iterator[Opener]:
    """Opens windows on a dashboard: ``open_window(url, width=360, scheme="dark")``."""
    windows = []

    def opener(url: str, **options: Any) -> Window:
        windows.append(Window(browser, url, **options))
        return windows[-1]

    yield opener
    for window in windows:
        window.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a dashboard on what the demo records."""
    path = _made_once(tmp_path_factory, "demo.db", lambda path: play(str(path), lambda _: None))
    with _dashboard(path, settings=Settings(regions=("all",)), now=utc_now) as url:
        yield url


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a dashboard on the recorded story, which has gaps that last."""
    path = _made_once(tmp_path_factory, "story.db", lambda path: record_story(f"sqlite:///{path}"))
    with _dashboard(path) as url:
        yield url


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a dashboard on a history in which every name is an attack."""
    path = _made_once(tmp_path_factory, "hostile.db", lambda path: record_hostile(f"sqlite:///{path}"))
    with _dashboard(path, settings=Settings(regions=("all",))) as url:
        yield url


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a file that the first of all workers makes."""
    base = factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path, draft = folder / name, folder / f"draft-{name}"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(draft)
            draft.rename(path)
    return path


@contextmanager
def _dashboard(path: Path, **fields: object) -> Iterator[str]:
    database = Database(f"sqlite:///{path}", is_read_only=True)
    with served(a_source(database, **fields)) as url:
        yield url
    database.close()
