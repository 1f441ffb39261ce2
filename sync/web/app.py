"""The Flask application: areas as blueprints, and what all of them share: who may look, errors and headers."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sync.web.access import Gate
from sync.web.source import Source

if TYPE_CHECKING:
    from flask import Flask, Response
    from flask.typing import ResponseReturnValue
    from werkzeug.exceptions import HTTPException

__all__ = ["PAGES_AT_ONCE", "Source", "create_app"]

logger = logging.getLogger(__name__)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer of the application says unless its page says otherwise; what waitress refuses itself has none."""

PAGES_AT_ONCE = 6  # of the server's threads; a page takes a fraction of a second, unless the database is slow
PAGES_WAITING = 20  # further ones, as when somebody opens all links of a page; six threads are left to probes and files
WAIT_S = 10  # until a page that waits is refused: nobody looks at an empty window for longer

FILES = frozenset({"dashboard.static", "dashboard.plotly"})

CACHED_S = 31_536_000  # for files whose address changes with their content

BROKEN = "internal error; the log has the traceback\n"

BUSY = "too many pages are being made at the moment; try again in a few seconds"

NO_PAGE = "there is no page at this address; those that there are stand above"


def create_app(source: Source, *, wait_s: float = WAIT_S) -> "Flask":
    """Return the application; it begins to read the database in the background at once.

    The packages of the extra ``web`` must be there (``extra.require_extra``).
    """
    from flask import Flask, request
    from werkzeug.exceptions import HTTPException

    from sync.web.dashboard import dashboard_area
    from sync.web.monitoring import monitoring_area

    gate = Gate(source.settings)
    app = Flask(__name__, static_folder=None)
    # Not from FLASK_DEBUG, which would show tracebacks.
    app.debug = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.before_request(lambda: gate.refusal(request))
    _limit_pages(app, wait_s)
    app.register_blueprint(monitoring_area(source, lambda: gate.lets_in(request)))
    app.register_blueprint(dashboard_area(source))
    app.register_error_handler(HTTPException, _refusal)
    app.register_error_handler(Exception, _breakdown)
    app.after_request(_with_headers(is_private=bool(source.settings.http_token)))
    return app


def _limit_pages(app: "Flask", wait_s: float) -> None:
    """Leave threads to probes and files, however slow pages are; a page waits for its turn at most so long."""
    from flask import g, request

    turns, places = threading.BoundedSemaphore(PAGES_AT_ONCE), threading.BoundedSemaphore(PAGES_WAITING)

    def take_turn() -> "ResponseReturnValue | None":
        if request.blueprint != "dashboard" or request.endpoint in FILES:
            return None
        g.has_turn = turns.acquire(blocking=False)
        if not g.has_turn and places.acquire(blocking=False):
            try:
                g.has_turn = turns.acquire(timeout=wait_s)
            finally:
                places.release()
        if g.has_turn:
            return None
        logger.warning("%r was refused: %d pages are being made already", request.path, PAGES_AT_ONCE)
        return _page_or_text(BUSY, 503, {"Retry-After": "2"})

    def end_turn(_: BaseException | None) -> None:
        if g.pop("has_turn", False):
            turns.release()

    app.before_request(take_turn)
    app.teardown_request(end_turn)


def _refusal(error: "HTTPException") -> "Response":
    """Answer what cannot be answered with one line of text; a browser that finds nothing gets a page with ways out."""
    from flask import Response

    if error.code == 404:
        return _page_or_text(NO_PAGE, 404) if _is_browser() else Response("404 Not Found\n", 404, mimetype="text/plain")
    answer = Response(f"{error.code} {error.name}\n", error.code, mimetype="text/plain")
    if allowed := getattr(error, "valid_methods", None):
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


def _is_browser() -> bool:
    from flask import request

    return "text/html" in request.headers.get("Accept", "")


def _page_or_text(sentence: str, code: int, headers: Mapping[str, str] | None = None) -> "Response":
    """Answer with a sentence: a browser gets it as a page with ways out."""
    from flask import Response, render_template

    from sync.web.dashboard import POLICY

    if not _is_browser():
        return Response(f"{sentence}\n", code, headers, mimetype="text/plain")
    page = render_template("error.html", page=None, sentence=sentence, code=code)
    return Response(page, code, {**(headers or {}), "Content-Security-Policy": POLICY})


def _breakdown(error: Exception) -> "Response":
    """Tell the log what broke, and the client only that something did."""
    from flask import Response, request

    logger.error("%s %r could not be answered", request.method, request.path, exc_info=error)
    return Response(BROKEN, 500, mimetype="text/plain")


def _with_headers(*, is_private: bool) -> "Callable[[Response], Response]":
    """Return what completes every answer; where it ``is_private`` no cache on the way may keep what one user got."""
    from flask import request

    from sync.web.assets import is_named_by_content

    def complete(answer: "Response") -> "Response":
        if request.endpoint in FILES and answer.status_code in {200, 304} and is_named_by_content(request):
            # While one machine is newer than the other, an old file under a new address must not stay for a year.
            answer.headers["Cache-Control"] = f"public, max-age={CACHED_S}, immutable"
        if is_private and "Cache-Control" in answer.headers:
            answer.headers["Cache-Control"] = answer.headers["Cache-Control"].replace("public", "private")
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    return complete
