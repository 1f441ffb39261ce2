"""The area of pages: what all of them share; each page stands in a module of its own below ``pages``."""

import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request
from markupsafe import Markup

from sync.errors import ConfigError, DatabaseError, SchemaVersionError, SyncError
from sync.logs import redact
from sync.moments import format_moment
from sync.render import counted, iso, named, to_csv, to_json, to_jsonl
from sync.store.database import require_history
from sync.web.assets import PLOTLY, asset, plotly_script
from sync.web.feed import FEED, atom_of
from sync.web.pages import PAGES
from sync.web.source import Source
from sync.web.visit import Answer, Page, Visit, address

PLOTLY_STYLE = "sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o="
"""The sheet for maps, which we do not show, that plotly's script adds to every page. The browser names this hash."""

POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' '{PLOTLY_STYLE}'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

STATUS = {ConfigError: 400, SchemaVersionError: 503, DatabaseError: 503}


def dashboard_area(source: Source) -> Blueprint:
    """Return the area."""
    area = Blueprint(
        "dashboard", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
    )

    @area.get("/")
    def start() -> Any:
        return redirect(address(PAGES[0].name))

    area.add_url_rule(f"/{PLOTLY}", "plotly", plotly_script, methods=["GET"])
    for page in PAGES:
        _add_page(area, source, page)
    feed = partial(_answer, source, FEED, _atom, is_page=False)
    area.add_url_rule(f"/{FEED.name}.atom", f"{FEED.name}_atom", feed, methods=["GET"])
    area.record_once(lambda state: state.app.jinja_env.globals.update(_words_of_templates(source)))
    area.after_request(_with_policy)
    return area


def _add_page(area: Blueprint, source: Source, page: Page) -> None:
    forms: dict[str, Callable[[Answer, Visit], Response]] = {"": _html(page), ".json": _json}
    if page.is_rows:
        forms[".csv"] = _csv
    if page.has_sql:
        forms[".sql"] = _sql
    for suffix, form in forms.items():
        view = partial(_answer, source, page, form, is_page=not suffix)
        area.add_url_rule(f"/{page.name}{suffix}", f"{page.name}{suffix.replace('.', '_')}", view, methods=["GET"])


def _answer(source: Source, page: Page, form: Callable[[Answer, Visit], Response], *, is_page: bool) -> Response:
    """Answer one request; what was foreseen to fail is told as one sentence in the form that was asked for."""
    try:
        page.check(list(request.args))
        with _visiting(source, page) as visit:
            return form(page.answer(visit), visit)
    except SyncError as error:
        code = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        sentence = redact(str(error))
        if not is_page:
            return Response(json.dumps({"error": sentence}) + "\n", code, mimetype="application/json")
        return Response(render_template("error.html", page=page, sentence=sentence, code=code), code)


@contextmanager
def _visiting(source: Source, page: Page) -> Any:
    require_history(source.database)
    with source.database.reading() as connection:
        yield Visit(connection, source.settings, source.now(), page.name, request.args)


def _html(page: Page) -> Callable[[Answer, Visit], Response]:
    def form(answer: Answer, visit: Visit) -> Response:
        kept = visit.here()
        twins = {"JSON": address(page.name, ".json", **kept)}
        if page.is_rows:
            twins["CSV"] = address(page.name, ".csv", **kept)
        if page.has_sql:
            twins["SQL"] = address(page.name, ".sql", **kept)
        text = render_template(f"{page.name}.html", page=page, visit=visit, twins=twins, **answer.shown)
        return Response(text, mimetype="text/html")

    return form


def _json(answer: Answer, _: Visit) -> Response:
    data = answer.data()
    text = to_jsonl([data]) if isinstance(data, Mapping) else to_json(data)
    return _data(text, "application/json", answer)


def _csv(answer: Answer, _: Visit) -> Response:
    data = answer.data()
    rows = [data] if isinstance(data, Mapping) else data
    return _data(to_csv(rows, answer.columns), "text/csv", answer)


def _sql(answer: Answer, _: Visit) -> Response:
    return Response(f"{answer.statement}\n", mimetype="text/plain")


def _atom(answer: Answer, visit: Visit) -> Response:
    return Response(atom_of(answer, visit, request.host_url), mimetype="application/atom+xml")


def _data(text: str, kind: str, answer: Answer) -> Response:
    links = ", ".join(f'<{url}>; rel="{relation}"' for relation, url in answer.following.items())
    return Response(f"{text}\n", mimetype=kind, headers={"Link": links} if links else None)


def _words_of_templates(source: Source) -> dict[str, Any]:
    """Return what every template and macro knows."""
    zone = source.settings.zone

    def moment(value: Any, *, with_seconds: bool = False) -> Any:
        if value is None:
            return ""
        shown = format_moment(value, zone, with_seconds=with_seconds)
        return Markup('<time datetime="{}">{}</time>').format(iso(value), shown)

    return {
        "pages": [page for page in PAGES if page.title],
        "address": address,
        "moment": moment,
        "counted": counted,
        "named": named,
        "zone": zone.key,
        "version": version("ehpc-image-sync"),
        "asset": asset,
    }


def _with_policy(answer: Response) -> Response:
    answer.headers["Content-Security-Policy"] = POLICY
    return answer
