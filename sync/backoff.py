"""Waits that double while something fails, up to a longest one."""

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Waits that double from the first to the longest, until what failed works again."""

    first_s: float
    longest_s: float
    failures: int = 0

    def next_s(self) -> float:
        """Return how long to wait now."""
        self.failures += 1
        return min(self.longest_s, self.first_s * 2.0 ** min(self.failures - 1, 30))

    def reset(self) -> None:
        """Begin with the first wait again."""
        self.failures = 0
