"""Asks about one history through the command line, as a person types it, and compares with the oracle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.cli.program import Program
from tests.questions import oracle
from tests.questions.asking import Inquiry
from tests.questions.expect import mismatch
from tests.questions.oracle import Rows, Wanted
from tests.questions.stories import BEGIN
from tests.questions.world import World

OPTIONS = (
    ("--region", "regions"),
    ("--instance-type", "types"),
    ("--image", "images"),
    ("--os-tag", "os_tags"),
    ("--kind", "kinds"),
)


@dataclass(slots=True)
class Typist:
    """A person with a terminal and a list of questions."""

    program: Program
    world: World
    inquiry: Inquiry
    random: Random
    problems: list[str] = field(default_factory=list)
    """What was answered wrongly."""

    def ask_all(self) -> list[str]:
        """Ask one question of each kind, and return what was answered wrongly."""
        for question in (self.images, self.times, self.regions, self.types, self.history, self.changes, self.runs):
            question()
        return self.problems

    def images(self) -> None:
        """Ask what was available at a time."""
        moment, wanted = self.random.choice(self.inquiry.moments()), self._wanted()
        self._ask(("images", "--at", _typed(moment)), wanted, oracle.images_at(self.world, moment, wanted))

    def times(self) -> None:
        """Ask what differs between two times."""
        first, second = sorted(self.inquiry.some(self.inquiry.moments(), 2))
        wanted = self._wanted()
        expected = oracle.compare_times(self.world, first, second, wanted)
        self._ask(("compare", _typed(first), _typed(second)), wanted, expected)

    def regions(self) -> None:
        """Ask what differs between two regions."""
        self._pair(("aa", "bb"), "regions", oracle.compare_regions)

    def types(self) -> None:
        """Ask what differs between two instance types."""
        self._pair(("t.1", "t.2"), "types", oracle.compare_types)

    def _pair(self, names: tuple[str, str], part: str, answer: Callable[..., Rows]) -> None:
        if not set(names) <= {key[0 if part == "regions" else 1] for key in self.world.lives}:
            return
        moment = self.random.choice(self.inquiry.moments(is_between_runs=True))
        wanted = Wanted(**{part: names})
        self._ask(("compare", "--at", _typed(moment)), wanted, answer(self.world, moment, names, wanted))

    def history(self) -> None:
        """Ask for life lines."""
        wanted = Wanted(types=("t.*",), os_tags=self.random.choice(((), ("CentOS_*",))))
        self._ask(("history",), wanted, oracle.history(self.world, wanted))

    def changes(self) -> None:
        """Ask for changes."""
        recorded = [entry.recorded_at for entry in self.world.changes] or [BEGIN]
        since, wanted = self.random.choice(recorded), self._wanted(kinds=True)
        self._ask(("changes", "--since", _typed(since)), wanted, oracle.changes(self.world, wanted, since))

    def runs(self) -> None:
        """Ask for past runs, and what one of them could not observe."""
        told = self.program.rows("runs", "--limit", "100")
        newest = [run.run_id for run in reversed(self.world.runs)]
        self._note(None if [row["run_id"] for row in told] == newest else f"runs: {told}")
        run = self.random.choice(self.world.runs)
        rows = self.program.rows("runs", str(run.run_id))
        named = {(row["region_id"], row["instance_type"], row["base_os_tag_filter"]) for row in rows}
        must, may = oracle.failures(self.world, run)
        is_right = must <= {key for key in named if key[1]} <= must | may
        self._note(None if is_right else f"runs {run.run_id}: {rows} instead of {must}")

    def _wanted(self, *, kinds: bool = False) -> Wanted:
        """Return a filter whose names the history knows: the program refuses others."""
        wanted = self.inquiry.wanted(kinds=kinds)
        regions = {key[0] for key in self.world.lives}
        return Wanted(
            tuple(name for name in wanted.regions if name in regions),
            tuple(name for name in wanted.types if _is_glob(name)),
            tuple(name for name in wanted.images if _is_glob(name)),
            tuple(name for name in wanted.os_tags if _is_glob(name)),
            wanted.kinds,
        )

    def _ask(self, words: Sequence[str], wanted: Wanted, expected: Rows) -> None:
        options = [part for option, name in OPTIONS for value in getattr(wanted, name) for part in (option, value)]
        answered = [_parsed(row) for row in self.program.rows(*words, *options)]
        problem = mismatch(expected, answered)
        self._note(f"{words} {options}: {problem}" if problem else None)

    def _note(self, problem: str | None) -> None:
        if problem:
            self.problems.append(problem)


def _is_glob(name: str) -> bool:
    return "*" in name or "?" in name


def _typed(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the data formats with its times as times."""
    return {
        name: datetime.fromisoformat(value) if value and name.endswith(("_at", "_since", "_from", "_to")) else value
        for name, value in row.items()
    }
