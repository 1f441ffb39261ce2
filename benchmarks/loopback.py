"""A tiny E-HPC in a process of its own: answers every request with one prepared body, checks nothing.

Started by the benchmarks of this folder; ``GET /times`` gives the arrival times (seconds, JSON) of the requests
since the last such question.
"""

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

ROWS = [
    {
        "ImageId": f"m-{number:020}",
        "OsTag": f"CentOS_7.{number}_64",
        "BaseOsTag": "CentOS_7.2_64",
        "Platform": "CentOS",
        "Version": f"7.{number}",
        "Architecture": "x86_64",
        "OSName": f"CentOS  7.{number}  64",
        "OSNameEn": f"CentOS  7.{number}  64 bit",
    }
    for number in range(80)
]


MARK = b"04F0F334-1335"
"""Thirteen bytes, in whose place each answer has a number of its own."""


def images_body(row_count: int, *, is_distinct: bool = False) -> bytes:
    """Return a ListImages answer with that many rows, marked in its request id, if distinct beside it too."""
    body: dict[str, object] = {"RequestId": MARK.decode(), "OsTags": {"OsInfo": ROWS[:row_count]}}
    if is_distinct:
        body["Other"] = MARK.decode()
    return json.dumps(body).encode()


def _http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class _Server(asyncio.Protocol):
    def __init__(self, answer: bytes, times: list[float]) -> None:
        self._answer = answer
        self._times = times

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /times"):
            body = json.dumps(self._times).encode()
            self._times.clear()
            self._transport.write(_http(body))
        else:
            self._times.append(time.monotonic())
            self._transport.write(self._answer.replace(MARK, b"%013d" % (time.monotonic_ns() % 10**13)))


def _serve(port_to: Connection, row_count: int, is_distinct: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        times: list[float] = []
        answer = _http(images_body(row_count, is_distinct=is_distinct))
        server = await asyncio.get_running_loop().create_server(lambda: _Server(answer, times), "127.0.0.1", 0)
        port_to.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def served(row_count: int = 10, *, is_distinct: bool = False) -> Iterator[str]:
    """Run the server and give its ``host:port``."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(there, row_count, is_distinct), daemon=True
    )
    process.start()
    try:
        yield f"127.0.0.1:{here.recv()}"
    finally:
        process.kill()
        process.join()
