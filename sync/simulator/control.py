"""The simulator's own addresses under ``/_simulator/``: its state, the next step, faults, a fresh start.

Anything else that runs on the same machine, a web page in a browser included, must not drive it by accident:
requests with a foreign Host or Origin are refused.
"""

import json
import re
from collections.abc import Callable, Mapping

from sync.errors import ConfigError
from sync.simulator.wire import HttpAnswer, HttpRequest

PREFIX = "/_simulator/"
LOOPBACK = re.compile(r"(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d+)?", re.ASCII)

Operation = Callable[[str], Mapping[str, object]]
"""What an address does with the body of the request; returns the JSON of the answer."""


def control_answer(request: HttpRequest, operations: Mapping[tuple[str, str], Operation]) -> HttpAnswer:
    """Return the answer to a control request; ``operations`` are keyed by method and the path after the prefix."""
    if not _is_local(request):
        return _json_answer(403, {"error": "The simulator is driven from this machine only: foreign Host or Origin."})
    path = f"{request.path}/".removeprefix(PREFIX).strip("/")
    operation = operations.get((request.method, path))
    if operation is None:
        known = sorted(f"{method} {PREFIX}{name}" for method, name in operations)
        return _json_answer(404, {"error": f"There is no such address; known are {', '.join(known)}."})
    try:
        return _json_answer(200, operation(request.body.decode("utf-8", "replace")))
    except ConfigError as error:
        return _json_answer(400, {"error": str(error)})


def _is_local(request: HttpRequest) -> bool:
    host = request.headers.get("host", "")
    origin = request.headers.get("origin", f"http://{host}")
    return bool(LOOPBACK.fullmatch(host) and LOOPBACK.fullmatch(origin.removeprefix("http://")))


def _json_answer(status: int, members: Mapping[str, object]) -> HttpAnswer:
    text = json.dumps(members, ensure_ascii=False, indent=2) + "\n"
    return HttpAnswer(status, text.encode(), headers=(("Cache-Control", "no-store"),))
