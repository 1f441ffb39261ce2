"""``python -m tests.chaos``: plays the script on one database, says what it did and found; exits 0 when all is well."""

import argparse
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from tests.chaos.clock import find_library, is_ci
from tests.chaos.evidence import Evidence
from tests.chaos.judge import judged_history
from tests.chaos.judge_alerts import judged_alerts, split_repeated
from tests.chaos.judge_runs import judged_runs, takeovers, ticks_of, unserved_ticks
from tests.chaos.script import play_all
from tests.chaos.stage import now, opened_stage

UNAVAILABLE = 77
"""The exit code where the database is not installed."""


def main() -> int:
    """Play, judge, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=0, help="play on for so long; the script takes a minute")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="new folder in which the logs and an SQLite file stay")
    chosen = parser.parse_args()
    try:
        if chosen.keep:
            chosen.keep.mkdir(parents=True)
            return _play(chosen.database, chosen.seed, chosen.seconds, chosen.keep)
        with tempfile.TemporaryDirectory(prefix="ehpc-chaos-") as folder:
            return _play(chosen.database, chosen.seed, chosen.seconds, Path(folder))
    except pytest.skip.Exception as reason:
        _say(str(reason))
        return UNAVAILABLE


def _say(text: str) -> None:
    sys.stdout.write(f"{now():%H:%M:%S.%f}"[:-3] + f"  {text}\n")
    sys.stdout.flush()


def _play(kind: str, seed: int, seconds: float, folder: Path) -> int:
    found: list[str] = []
    if not find_library():
        _say("libfaketime is not installed (Debian: faketime): clocks do not jump")
        found += ["libfaketime is missing, in CI it must be there"] if is_ci() else []
    begun = time.monotonic()
    with opened_stage(kind, seed, folder, _say) as stage:
        try:
            play_all(stage, seconds)
        except Exception as error:  # noqa: BLE001  whatever stops the script, the judges are to speak
            found.append(f"stuck: {''.join(traceback.format_exception(error))}")
        until = now()
        stage.fleet.end()
        evidence = stage.evidence(until)
        found += [*judged_history(evidence), *judged_runs(evidence), *judged_alerts(evidence), *evidence.troubles]
        if len(evidence.touches) != 1:
            found.append(f"touches: {len(evidence.touches)} instead of one: {evidence.touches}")
        if found:
            _show(stage.fleet.daemons[0].log.parent, evidence)
    _tell(evidence, found, time.monotonic() - begun)
    return 1 if found else 0


def _show(folder: Path, evidence: Evidence) -> None:
    """Print what one needs to understand a finding."""
    for run in evidence.sightings:
        tick = f"{run.scheduled_at:%H:%M:%S}" if run.scheduled_at else "-"
        seen = f"{run.seen_from:%H:%M:%S.%f}"[:-3]
        _say(f"run {run.run_id} seen {seen}, tick {tick}, {run.trigger}, {run.status} {run.error or ''}")
    for told in evidence.deliveries:
        _say(f"told at {told.arrived_at:%H:%M:%S}{' (refused)' if told.is_refused else ''}: {told.message}")
    for log in sorted(folder.glob("*.log")):
        _say(f"--- {log.name}\n{log.read_text(errors='replace')}")


def _tell(evidence: Evidence, found: list[str], took_s: float) -> None:
    statuses = [run.status for run in evidence.sightings]
    counts = ", ".join(f"{statuses.count(name)} {name}" for name in sorted(set(statuses)))
    taken = [told for told in evidence.deliveries if not told.is_refused]
    repeated = split_repeated(taken, evidence)[1]
    ticks = f"{len(ticks_of(evidence))} ticks, {len(unserved_ticks(evidence))} of them lost to what was done"
    _say(f"{len(statuses)} runs in {ticks}: {counts}")
    _say(f"takeovers: {', '.join(takeovers(evidence))}")
    _say(f"{len(taken)} messages taken, {len(evidence.deliveries) - len(taken)} refused, {len(repeated)} told again")
    for text in found:
        _say(f"WRONG: {text}")
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    _say(
        f"CPU: {own.ru_utime + own.ru_stime:.0f} s of this process, {others.ru_utime + others.ru_stime:.0f} s of others"
    )
    _say(f"{'all is well' if not found else f'{len(found)} findings'} after {took_s:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
