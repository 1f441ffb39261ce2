"""Styles and scripts: ours, and plotly's from its installed package; each under an address of its own content."""

import gzip
import hashlib
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files

from flask import Request, Response, request, url_for

PLOTLY = "plotly.min.js"


@lru_cache(maxsize=16)
def content_mark(name: str) -> str:
    """Return what changes when a file does."""
    if name == PLOTLY:
        return version("plotly")
    return hashlib.sha256(files("sync.web").joinpath("static", name).read_bytes()).hexdigest()[:12]


def asset(name: str) -> str:
    """Return the address of a style, a script or a picture; browsers may keep what is there."""
    if name == PLOTLY:
        return url_for("dashboard.plotly", v=content_mark(name))
    return url_for("dashboard.static", filename=name, v=content_mark(name))


def is_named_by_content(request: Request) -> bool:
    """Return whether the address of a file is the one of what it holds now."""
    name = PLOTLY if request.endpoint == "dashboard.plotly" else (request.view_args or {}).get("filename", "")
    return request.args.get("v") == content_mark(name)


@lru_cache(maxsize=1)
def _plotly_bytes() -> tuple[bytes, bytes]:
    """Return plotly's script as it is and compressed."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs().encode()
    return script, gzip.compress(script)


def plotly_script() -> Response:
    """Return the script that draws the charts, compressed for whoever takes that."""
    plain, packed = _plotly_bytes()
    is_packed = request.accept_encodings.quality("gzip") > 0
    headers = {"Vary": "Accept-Encoding"}
    if is_packed:
        headers["Content-Encoding"] = "gzip"
    return Response(packed if is_packed else plain, mimetype="text/javascript", headers=headers)
