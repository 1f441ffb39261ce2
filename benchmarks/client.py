"""Our client and the official SDK side by side: calls per second and CPU per call with 8 threads.

Run as ``python -m benchmarks.client``. Both ask the same local server, in turns, several times; the medians and
their ratios are printed. Repeated lists differ in their request id only, as most answers of a run do, and our
client reads such a list once; distinct lists are read in full by both.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from alibabacloud_ehpc20180412.client import Client as OfficialClient
from alibabacloud_ehpc20180412.models import ListImagesRequest
from alibabacloud_tea_openapi.models import Config

from benchmarks.loopback import served
from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import Client, ClientSettings
from sync.inventory import Target, utc_now

THREADS = 8
CALLS = 2000
ROUNDS = 5


def measured(call: Callable[[int], object]) -> tuple[float, float]:
    """Return calls per second and CPU milliseconds per call."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(call, range(THREADS * 2)))
        wall, cpu = time.perf_counter(), time.process_time()
        list(pool.map(call, range(CALLS)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return CALLS / wall, cpu / CALLS * 1000


def official(host: str) -> Callable[[int], object]:
    """Return a call of the official SDK."""
    config = Config(access_key_id="id", access_key_secret="secret", endpoint=host, protocol="http")
    client = OfficialClient(config)
    return lambda number: client.list_images(ListImagesRequest(instance_type=f"ecs.c7.{number}"))


def ours(client: Client) -> Callable[[int], object]:
    """Return a call of this program's client."""
    return lambda number: client.fetch_images(Target("cn-hangzhou", f"ecs.c7.{number}"))


def main() -> None:
    """Measure in turns and print medians and ratios."""
    for row_count, is_distinct in ((10, False), (10, True), (80, False), (80, True)):
        with served(row_count, is_distinct=is_distinct) as host:
            settings = ClientSettings(endpoint=f"http://{host}", workers=THREADS, calls_per_second=1_000_000)
            with Client(settings, lambda: Credential("id", "secret"), now=utc_now) as client:
                rounds = [(measured(official(host)), measured(ours(client))) for _ in range(ROUNDS)]
        sdk_rate, sdk_cpu = (statistics.median(sdk[index] for sdk, _ in rounds) for index in (0, 1))
        our_rate, our_cpu = (statistics.median(own[index] for _, own in rounds) for index in (0, 1))
        kind = "distinct" if is_distinct else "repeated"
        print(f"{kind} lists of {row_count} rows, {THREADS} threads, median of {ROUNDS} rounds of {CALLS} calls")
        print(f"  official SDK  {sdk_rate:7.0f} calls/s  {sdk_cpu:.3f} ms CPU per call")
        print(f"  ours          {our_rate:7.0f} calls/s  {our_cpu:.3f} ms CPU per call")
        print(f"  ratio         {our_rate / sdk_rate:7.2f}          {our_cpu / sdk_cpu:.2f}")


if __name__ == "__main__":
    main()
