"""``accept-removals``: it shows, asks, accepts exactly what was shown, and dates it early."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from sync.simulator.catalogue import (
    Catalogue,
    OfferedType,
    catalogue_of,
    with_type,
    without_images,
    without_type,
)
from sync.simulator.server import Simulator
from sync.store.database import Database
from sync.store.lease import Lease
from tests.alerts.receiver import receiving
from tests.cli.program import Program
from tests.cli.story import an_image

MANY = [an_image(f"m-{number:02}", "CentOS", f"7.{number}") for number in range(25)]
STRUCK = "ecs.c7.large"


def offer() -> Catalogue:
    types = {STRUCK: MANY, "ecs.g7.large": MANY[:1]}
    return catalogue_of({"cn-beijing": types, "cn-hangzhou": types})


def hold_removals(program: Program, simulator: Simulator) -> str:
    """Make two runs of which the second one holds 25 removals in each region; return when that was."""
    simulator.catalogue = offer()
    program.ask("run")
    simulator.catalogue = without_images(offer(), instance_type=STRUCK)
    held = program.ask("run", "--format", "json")
    assert (held.code, held.one["removals_held"]) == (3, 50)
    return str(held.one["started_at"])


def test_without_yes_and_terminal_it_only_shows(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)
    answer = program.ask("accept-removals")
    assert (answer.code, len(answer.rows)) == (0, 50)
    assert "nothing was accepted; to accept: ehpc-image-sync accept-removals --yes" in answer.sentence
    assert program.rows("changes") == []


def test_with_yes_the_removals_are_dated_to_the_first_miss(program: Program, simulator: Simulator) -> None:
    missed_at = hold_removals(program, simulator)
    answer = program.ask("accept-removals", "--yes")
    assert (answer.code, answer.sentence) == (0, "accepted as run 3: 50 removals, 0 retired instance types")
    changes = program.rows("changes")
    assert {row["kind"] for row in changes} == {"removed"}
    assert {row["image_id"] for row in changes} == {image.image_id for image in MANY}
    assert all(missed_at <= row["detected_at"] < row["recorded_at"] for row in changes)
    assert program.rows("images", "--instance-type", STRUCK) == []


def test_a_region_can_be_accepted_alone(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)
    answer = program.ask("accept-removals", "--region", "cn-beijing", "--yes")
    assert "25 removals" in answer.sentence
    assert {row["region_id"] for row in program.rows("changes")} == {"cn-beijing"}
    assert {row["region_id"] for row in program.ask("accept-removals").rows} == {"cn-hangzhou"}


def test_a_person_on_a_terminal_is_asked(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)
    refused = program.ask_on_terminal("accept-removals", typed="n\n")
    assert "Accept these 50 removals?" in refused.err
    assert "nothing was accepted" in refused.err
    accepted = program.ask_on_terminal("accept-removals", typed="y\n")
    assert "accepted as run 3: 50 removals" in accepted.err


def test_a_held_image_is_marked_in_images_and_stays_available(program: Program, simulator: Simulator) -> None:
    missed_at = hold_removals(program, simulator)
    rows = program.rows("images", "--instance-type", STRUCK)
    assert {row["state"] for row in rows} == {"available"}
    assert all(row["missing_since"] >= missed_at for row in rows)
    assert "not believed yet" in program.ask("images", "--format", "table").out


def test_a_second_acceptance_has_nothing_to_do(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)
    program.ask("accept-removals", "--yes")
    answer = program.ask("accept-removals", "--yes")
    assert (answer.code, answer.out, answer.sentence) == (0, "", "no removals are held")


def test_images_that_are_back_are_no_longer_held(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)
    simulator.catalogue = offer()
    assert program.ask("run").code == 0
    assert program.ask("accept-removals").sentence == "no removals are held"
    assert program.rows("changes") == []


def test_the_retirement_of_a_type_can_be_accepted(program: Program, simulator: Simulator) -> None:
    many_types = [OfferedType(f"ecs.x{number}.large", frozenset(MANY[:1])) for number in range(25)]
    catalogue = catalogue_of({"cn-beijing": [*many_types, OfferedType(STRUCK, frozenset(MANY))], "cn-hangzhou": {}})
    simulator.catalogue = catalogue
    program.ask("run", "--region", "cn-beijing")
    simulator.catalogue = with_type(without_type(catalogue, "ecs.*"), "cn-beijing", OfferedType("ecs.left.large"))
    assert program.ask("run", "--region", "cn-beijing").code == 3
    assert {row["kind"] for row in program.ask("accept-removals").rows} == {"removed", "type_retired"}
    assert "0 removals, 26 retired instance types" in program.ask("accept-removals", "--yes").sentence
    assert {row["kind"] for row in program.rows("changes")} == {"type_added", "type_retired"}
    assert program.rows("images", "--instance-type", STRUCK) == []


def test_a_run_that_does_not_end_refuses_the_acceptance(
    program: Program, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.cli.upkeep.WAIT_FOR_RUN_S", 0)
    hold_removals(program, simulator)
    with taken_lease():
        answer = program.ask("accept-removals", "--yes")
    assert answer.code == 4
    assert "another run is under way" in answer.sentence
    assert program.rows("changes") == []


def test_a_run_under_way_is_waited_for(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)
    with taken_lease() as lease:
        threading.Timer(0.7, lease.release).start()
        answer = program.ask("accept-removals", "--yes")
    assert answer.code == 0
    assert answer.err.splitlines() == [
        "waiting for the run under way to end; Ctrl-C gives up, and nothing is accepted",
        "accepted as run 3: 50 removals, 0 retired instance types",
    ]


@contextlib.contextmanager
def taken_lease() -> Iterator[Lease]:
    """Hold the lease, as a run does."""
    database = Database("sqlite:///history.db")
    lease = Lease(database)
    lease.acquire()
    yield lease
    lease.release()
    database.close()


def test_what_came_back_while_the_person_thought_is_not_removed(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)

    def bring_back() -> None:
        simulator.catalogue = without_images(offer(), region_id="cn-hangzhou", instance_type=STRUCK)
        assert program.ask("run").code == 3

    answer = program.ask_on_terminal("accept-removals", typed="y\n", meanwhile=bring_back)
    assert "accepted as run 4: 25 removals" in answer.err
    assert "25 were no longer held when they were to be written, and stay as they are" in answer.err
    assert {row["region_id"] for row in program.rows("changes")} == {"cn-hangzhou"}
    assert len(program.rows("images", "--region", "cn-beijing", "--instance-type", STRUCK)) == 25


def test_acceptance_is_told_at_once(program: Program, simulator: Simulator) -> None:
    hold_removals(program, simulator)
    with receiving() as receiver:
        program.configure(notify_urls=receiver.channel)
        assert program.ask("accept-removals", "--yes").code == 0
    assert len(receiver.messages) == 1
    assert "removed from" in receiver.messages[0]["message"]
