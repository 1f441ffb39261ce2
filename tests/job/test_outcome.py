"""What a run says of its end does not depend on what happened to come first."""

from itertools import permutations

from sync.inventory import Failure
from sync.run.course import _first_cause


def test_the_cause_of_a_run_is_the_same_whichever_failure_came_first() -> None:
    failures = [Failure(region, "ecs.c7.large", f"Code.{region}", "no", "") for region in ("a", "b", "c")]
    causes = {_first_cause(order) for order in permutations(failures)}
    assert causes == {"Code.a: no (and 2 more failures)"}
