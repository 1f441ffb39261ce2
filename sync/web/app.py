"""The Flask application: areas as blueprints, and what all of them share, errors and headers."""

import logging
from typing import TYPE_CHECKING

from sync.web.extra import needing_extra
from sync.web.source import Source

if TYPE_CHECKING:
    from flask import Flask, Response
    from werkzeug.exceptions import HTTPException

__all__ = ["Source", "create_app"]

logger = logging.getLogger(__name__)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer says unless its page says otherwise."""

BROKEN = "internal error; the daemon's log has the traceback\n"


def create_app(source: Source) -> "Flask":
    """Return the application; it begins to read the database in the background at once.

    Raises:
        ConfigError: a package of the extra ``web`` is not installed.
    """
    with needing_extra():
        from flask import Flask
        from werkzeug.exceptions import HTTPException

        from sync.web.monitoring import monitoring_area
    app = Flask(__name__, static_folder=None)
    # Not from FLASK_DEBUG, which would show tracebacks.
    app.debug = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.register_blueprint(monitoring_area(source))
    app.register_error_handler(HTTPException, _refusal)
    app.register_error_handler(Exception, _breakdown)
    app.after_request(_with_headers)
    return app


def _refusal(error: "HTTPException") -> "Response":
    """Answer what cannot be answered with one line of text."""
    from flask import Response

    answer = Response(f"{error.code} {error.name}\n", error.code, mimetype="text/plain")
    if allowed := getattr(error, "valid_methods", None):
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


def _breakdown(error: Exception) -> "Response":
    """Tell the log what broke, and the client only that something did."""
    from flask import Response, request

    logger.error("%s %r could not be answered", request.method, request.path, exc_info=error)
    return Response(BROKEN, 500, mimetype="text/plain")


def _with_headers(answer: "Response") -> "Response":
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer
