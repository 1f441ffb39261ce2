import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import ConfigError
from sync.simulator.fault_text import FAULT_HELP, SETTINGS, parse_fault, parse_faults, text_of
from sync.simulator.faults import Fault, FaultKind, FaultPlan

TARGETS = [("ListImages", "cn-hangzhou", f"ecs.c7.{size}xlarge") for size in range(200)]


def struck(plan: FaultPlan, *, times: int = 1) -> list[str]:
    return [target[2] for _ in range(times) for target in TARGETS if plan.fired_for(*target)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("reset", Fault(FaultKind.RESET)),
        ("html", Fault(FaultKind.HTML)),
        ("html status=200", Fault(FaultKind.HTML, status=200)),
        ("throttle region=cn-shanghai rate=0.2", Fault(FaultKind.THROTTLE, region_id="cn-shanghai", rate=0.2)),
        ("throttle retry_after=1.5s", Fault(FaultKind.THROTTLE, retry_after_ms=1_500)),
        (
            "status=503 code=ServiceUnavailable type=ecs.g*",
            Fault(FaultKind.ERROR, instance_type="ecs.g*", status=503, code="ServiceUnavailable"),
        ),
        ("delay=2s action=ListImages first=3", Fault(FaultKind.DELAY, "ListImages", first=3, duration_s=2.0)),
        ("reset first=1 per-target", Fault(FaultKind.RESET, first=1, is_per_target=True)),
        ("skew=-20m", Fault(FaultKind.SKEW, duration_s=-1_200.0)),
        ("drip=5ms every=2", Fault(FaultKind.DRIP, every=2, duration_s=0.005)),
        ("huge=2MB", Fault(FaultKind.HUGE, size_bytes=2_097_152)),
        ("shape=[1,2]", Fault(FaultKind.SHAPE, shape="[1,2]")),
        ("  EMPTY  ".lower(), Fault(FaultKind.EMPTY)),
    ],
)
def test_a_fault_is_read_from_its_text(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("throtle", "did you mean throttle?"),
        ("reset regon=cn-hangzhou", "did you mean region?"),
        ("throttle rate=2", "rate=2"),
        ("throttle rate=nan", "rate=nan"),
        ("throttle rate=often", "rate=often"),
        ("delay=soon", "duration"),
        ("delay=-2s", "below zero"),
        ("delay=99999h", "duration"),
        ("reset first=0", "whole number"),
        ("error status=99", "HTTP status"),
        ("error code=<b>", "error code"),
        ("huge=9000MB", "size"),
        ("shape={", "JSON"),
        ("reset html", "two kinds"),
        ("region=cn-hangzhou", "does not say what happens"),
        ("reset=5", "takes no value"),
        ("reset region=", "empty"),
        ("reset per-target=yes", "takes no value"),
        ("delay=1s drip=5ms", "two kinds"),
        ("", "does not say what happens"),
    ],
)
def test_a_bad_fault_is_refused_with_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as refused:
        parse_fault(text)
    assert "\n" not in str(refused.value)


def test_several_faults_stand_on_lines_or_between_semicolons() -> None:
    assert [fault.kind for fault in parse_faults("reset; html\n\nempty\n")] == ["reset", "html", "empty"]
    assert parse_faults(" \n") == ()


@given(
    st.builds(
        Fault,
        st.sampled_from([FaultKind.ERROR, FaultKind.RESET, FaultKind.DELAY, FaultKind.SKEW, FaultKind.DRIP]),
        region_id=st.sampled_from(["*", "cn-*"]),
        rate=st.sampled_from([1.0, 0.25]),
        every=st.integers(1, 5),
        first=st.integers(0, 5),
        is_per_target=st.booleans(),
        status=st.sampled_from([0, 503]),
        duration_s=st.sampled_from([0.5, 2.0]),
    )
)
def test_a_fault_survives_its_own_text(fault: Fault) -> None:
    again = parse_fault(text_of(fault))
    assert text_of(again) == text_of(fault)
    assert (again.kind, again.region_id, again.rate) == (fault.kind, fault.region_id, fault.rate)
    assert (again.every, again.first, again.is_per_target) == (fault.every, fault.first, fault.is_per_target)


def test_the_help_names_every_kind_and_word() -> None:
    assert [word for word in (*FaultKind, *SETTINGS) if word not in FAULT_HELP] == []


def test_the_first_calls_are_struck_and_no_later_one() -> None:
    plan = FaultPlan([parse_fault("reset first=3")])
    assert struck(plan, times=2) == [target[2] for target in TARGETS[:3]]


def test_per_target_strikes_the_first_call_of_each() -> None:
    plan = FaultPlan([parse_fault("reset first=1 per-target")])
    assert len(struck(plan)) == len(TARGETS)
    assert struck(plan) == []


def test_every_third_call_is_struck() -> None:
    plan = FaultPlan([parse_fault("reset every=3")])
    assert struck(plan) == [target[2] for target in TARGETS[2::3]]


def test_a_rate_strikes_about_its_share_whatever_the_order_of_calls() -> None:
    plan, backwards = (FaultPlan([parse_fault("reset rate=0.25")], seed=7) for _ in range(2))
    hit = struck(plan)
    hit_backwards = [target[2] for target in reversed(TARGETS) if backwards.fired_for(*target)]
    assert 30 <= len(hit) <= 70
    assert sorted(hit) == sorted(hit_backwards)


def test_another_seed_strikes_other_calls() -> None:
    one, other = (struck(FaultPlan([parse_fault("reset rate=0.25")], seed=seed)) for seed in (1, 2))
    assert one != other


def test_selection_spares_the_other_calls() -> None:
    plan = FaultPlan([parse_fault("reset region=cn-h* type=ecs.g* action=ListImages")])
    assert plan.fired_for("ListImages", "cn-hangzhou", "ecs.g7.large")
    assert not plan.fired_for("ListImages", "cn-hangzhou", "ecs.c7.large")
    assert not plan.fired_for("ListImages", "cn-shanghai", "ecs.g7.large")
    assert not plan.fired_for("ListRegions", "cn-hangzhou", "ecs.g7.large")
