"""Clocks that jump: libfaketime between a daemon and the system, steered by a file.

The time that waits are measured by (CLOCK_MONOTONIC) is not faked: setting a machine's clock does not change it either.
"""

import os
from pathlib import Path

NO_JUMP = "+0"


def find_library() -> Path | None:
    """Return libfaketime for programs with threads; None where it is not installed (Debian: faketime)."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


class Clock:
    """The clock that one or several processes read, until now without any jump."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.jump_to(NO_JUMP)

    def jump_to(self, offset: str) -> None:
        """Set the clock off by ``+2h`` or ``-2h``; ``+0`` sets it right."""
        # Exchanged whole: a process that read a half-written file would jump anywhere.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a process that reads this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


def forget_process(process_id: int) -> None:
    """Remove the shared memory that libfaketime leaves when its process is killed; it would trouble a later process."""
    for name in (f"faketime_shm_{process_id}", f"sem.faketime_sem_{process_id}"):
        (Path("/dev/shm") / name).unlink(missing_ok=True)


def is_ci() -> bool:
    """Return whether nothing may be left out."""
    return os.environ.get("CI", "").lower() in {"true", "1"}
