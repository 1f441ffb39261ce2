"""How exactly the client keeps its rate: as the server sees it, with 8 threads asking all the time.

Run as ``python -m benchmarks.rate``. Prints the share of ``calls_per_second`` that was reached and the most calls
that arrived within any one second.
"""

import json
import threading
import time
import urllib.request

from benchmarks.loopback import served
from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import Client, ClientSettings
from sync.ehpc.rate import BURST_S
from sync.errors import RunInterruptedError
from sync.inventory import Target, utc_now

THREADS = 8
SECONDS = 6.0
RATES = (0.5, 5, 10, 50, 200, 1000)


def ask_until_stopped(client: Client) -> None:
    """Call without a pause."""
    while True:
        try:
            client.fetch_images(Target("cn-hangzhou", "ecs.c7.large"))
        except RunInterruptedError:
            return


def arrivals(host: str, rate: float) -> list[float]:
    """Return when the server saw the calls of a few seconds."""
    settings = ClientSettings(endpoint=f"http://{host}", workers=THREADS, calls_per_second=rate)
    with Client(settings, lambda: Credential("id", "secret"), now=utc_now) as client:
        threads = [threading.Thread(target=ask_until_stopped, args=(client,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(max(SECONDS, 4 / rate))
        client.stop()
        for thread in threads:
            thread.join()
    with urllib.request.urlopen(f"http://{host}/times") as answer:
        return sorted(json.load(answer))


def most_in_a_second(times: list[float]) -> int:
    """Return the largest number of arrivals in any window of one second."""
    first, most = 0, 0
    for last, moment in enumerate(times):
        while moment - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> None:
    """Measure each rate for a few seconds."""
    with served(1) as host:
        for rate in RATES:
            times = arrivals(host, rate)
            reached = (len(times) - 1) / (times[-1] - times[0]) / rate
            allowed = rate + rate * BURST_S + 1
            print(
                f"{rate:6} calls/s: {reached:6.1%} reached, at most {most_in_a_second(times)} a second ({allowed:.1f})"
            )


if __name__ == "__main__":
    main()
