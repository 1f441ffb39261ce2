"""The ``simulate`` command: serve until told to stop, and tell the user how to talk to it."""

import threading
import time
from collections.abc import Callable, Sequence

from sync.simulator.fault_text import parse_fault
from sync.simulator.server import Simulator
from sync.simulator.timeline import DEFAULT_REGION_IDS, default_timeline

POLL_S = 0.1  # how soon a signal is noticed


def serve(
    port: int,
    region_ids: Sequence[str],
    interrupt: threading.Event,
    tell: Callable[[str], None],
    *,
    type_count: int,
    faults: Sequence[str] = (),
    every_s: float | None = None,
    calls_per_second: float | None = None,
) -> None:
    """Serve the default story on loopback until ``interrupt`` is set; with ``every_s`` it goes on by itself.

    Raises:
        ConfigError: the port is taken, or a fault, region or number cannot be used.
    """
    parsed = [parse_fault(text) for text in faults]
    steps = default_timeline(region_ids=tuple(region_ids) or DEFAULT_REGION_IDS, types_per_region=type_count)
    with Simulator(steps, port=port, calls_per_second=calls_per_second) as simulator:
        simulator.faults = parsed
        tell(_greeting(simulator))
        while not _is_set_within(interrupt, every_s or 1):
            if every_s and not simulator.is_at_end:
                simulator.advance()
                tell(f"step {simulator.step_index}: {simulator.step.description}")
    tell("the simulator has stopped")


def _is_set_within(event: threading.Event, seconds: float) -> bool:
    """Wait for an event that a signal's handler sets, which must not be waited on: both would want its lock."""
    end = time.monotonic() + seconds
    while not event.is_set() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, POLL_S))
    return event.is_set()


def _greeting(simulator: Simulator) -> str:
    regions = ",".join(simulator.catalogue.region_ids)
    control = f"{simulator.url}/_simulator"
    return (
        f"A simulated E-HPC listens on {simulator.url}; end it with Ctrl-C. In another shell:\n\n"
        f"  export ALIBABA_CLOUD_ACCESS_KEY_ID={simulator.access_key_id}\n"
        f"  export ALIBABA_CLOUD_ACCESS_KEY_SECRET={simulator.access_key_secret}\n"
        f"  export EHPC_SYNC_ENDPOINT={simulator.url} EHPC_SYNC_REGIONS={regions}\n"
        "  ehpc-image-sync run\n\n"
        f"It is at step {simulator.step_index} of {len(simulator.steps) - 1}: {simulator.step.description}\n"
        f"  curl -X POST {control}/advance                       the next step of the story\n"
        f"  curl -X POST -d 'status=503' {control}/faults        let calls fail; an empty text ends it\n"
        f"  curl {control}/state                                 where it is\n"
    )
