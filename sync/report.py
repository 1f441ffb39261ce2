"""How a run is reported: one object for programs, one screen for people. Pure."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from zoneinfo import ZoneInfo

from sync.inventory import Failure
from sync.moments import format_moment
from sync.render import Row, change_lines, counted, failure_lines, iso
from sync.run import RunResult

WIDTH = 100  # characters: a summary is read on terminals and in mails

LINES_SHOWN = 12  # changes or failures shown of a run, so that a summary fits on one screen


def run_row(result: RunResult) -> dict[str, object]:
    """Return the object that ``run --format json`` prints."""
    return {
        "run_id": result.run_id,
        "status": result.status.value,
        "started_at": iso(result.started_at),
        "finished_at": iso(result.finished_at),
        **asdict(result.counts),
        "failures": [_failure_row(failure) for failure in result.failures],
    }


def _failure_row(failure: Failure) -> dict[str, str]:
    names = ("region_id", "instance_type", "code", "message", "request_id")
    return {name: getattr(failure, name) for name in names}


def run_summary(result: RunResult, changes: Iterable[Row], zone: ZoneInfo) -> str:
    """Return what a run saw and recorded, on at most one screen; ``changes`` are rows of ``image_changes``."""
    name = "dry run, nothing written" if result.run_id is None else f"run {result.run_id}"
    seconds = (result.finished_at - result.started_at).total_seconds()
    started = format_moment(result.started_at, zone, with_seconds=True)
    counts = result.counts
    lines = [f"{name}: {result.status.value} ({started} {zone.key}, {seconds:.1f} s)"]
    lines.append(
        f"  {counted(counts.targets_ok, 'target')} observed, {counts.targets_failed:,} failed; "
        f"{counted(counts.images_added, 'image')} added, {counts.images_removed:,} removed, "
        f"{counts.images_changed:,} changed; {counted(counts.removals_held, 'removal')} held"
    )
    if result.baseline_count:
        pairs = counted(result.baseline_count, "pair")
        lines.append(f"  = {pairs} of instance type and image seen for the first time: the baseline, no changes")
    lines += _first_lines(change_lines(changes), "ehpc-image-sync changes")
    lines += _first_lines(failure_lines([_failure_row(entry) for entry in result.failures]), "--format json")
    if counts.removals_held or result.status.value == "held":
        lines.append(
            "  ! removals are held: too many at once, or a second answer was not to be had. The images stay "
            "available; the next runs decide, or a person: ehpc-image-sync accept-removals"
        )
    if result.error and not result.failures:
        lines.append(f"  ! {result.error}")
    return "\n".join(wrapped(line) for line in lines)


def wrapped(line: str) -> str:
    """Return a line broken to a readable width, its later parts indented below its own beginning."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _first_lines(lines: Sequence[str], more: str) -> list[str]:
    shown = [f"  {line}" for line in lines[:LINES_SHOWN]]
    left = len(lines) - len(shown)
    return [*shown, f"  … and {left} more: see {more}"] if left else shown
