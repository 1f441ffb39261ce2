"""The area of probes and Prometheus: ``/healthz``, ``/livez``, ``/metrics``."""

import json
from collections.abc import Callable, Sequence

from flask import Blueprint, Response, request
from prometheus_client.exposition import choose_encoder

from sync.web.exposition import registry_of
from sync.web.reading import Readings
from sync.web.source import Source

LOOP_HANGS = "the daemon's loop has shown no sign of life for minutes; restart it, and report its log"


def monitoring_area(source: Source, may_look: Callable[[], bool]) -> Blueprint:
    """Return the area; changes are counted from here on.

    Reasons name regions and causes: ``/healthz`` tells them to who ``may_look``, to others the verdict alone.
    """
    area = Blueprint("monitoring", __name__)
    readings = Readings(source)
    registry = registry_of(source, readings)
    readings.begin()

    @area.get("/healthz")
    def healthz() -> Response:
        return _verdict(readings.latest().reasons, is_told=may_look())

    @area.get("/livez")
    def livez() -> Response:
        return _verdict(() if source.is_alive() else (LOOP_HANGS,), is_told=True)

    @area.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return area


def _verdict(reasons: Sequence[str], *, is_told: bool) -> Response:
    told = {"reasons": reasons} if is_told else {}
    text = json.dumps({"status": "unhealthy" if reasons else "ok"} | told)
    return Response(f"{text}\n", 503 if reasons else 200, mimetype="application/json")
