"""The alerts: about metrics that there are, each with a test that it fires, and with a command that helps."""

import re
from collections.abc import Iterator

import pytest

from tests.deploy.metrics import HISTOGRAMS, METRICS, SCRAPED_LABELS
from tests.deploy.sources import DEPLOY, Object, documents_of, told_by, tool

RULES, TESTS = DEPLOY / "prometheus" / "rules.yml", DEPLOY / "prometheus" / "rules_test.yml"
ALERTS = [rule for group in documents_of(RULES)[0]["groups"] for rule in group["rules"]]
KNOWN = METRICS.keys() | {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}


def metrics_in(text: str) -> set[str]:
    """Return the names of our metrics that an expression or series uses."""
    return set(re.findall(r"\behpc_sync_\w+", text))


def labels_of(name: str) -> tuple[str, ...]:
    """Return the labels of a metric, or of a part of a histogram."""
    whole = re.sub(r"_(bucket|sum|count)$", "", name)
    return METRICS[whole if whole in HISTOGRAMS else name]


def labels_in(expression: str) -> set[str]:
    """Return the labels that an expression selects, groups or matches by."""
    lists = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right) \(([^)]*)\)", expression)
    matchers = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    return set(matchers) | {label.strip() for part in lists for label in part.split(",") if label.strip()}


def cases_of_alerts() -> Iterator[tuple[str, bool]]:
    """Yield the alert of each test, and whether it must fire there."""
    for test in documents_of(TESTS)[0]["tests"]:
        for case in test["alert_rule_test"]:
            yield case["alertname"], bool(case["exp_alerts"])


def test_prometheus_takes_the_rules() -> None:
    told_by(tool("promtool"), "check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    told_by(tool("promtool"), "test", "rules", TESTS)


def test_the_rules_are_about_metrics_of_the_daemon() -> None:
    used = set().union(*(metrics_in(rule["expr"]) for rule in ALERTS))
    assert sorted(used - KNOWN) == []


def test_the_tests_of_the_rules_make_series_as_the_daemon_does() -> None:
    for test in documents_of(TESTS)[0]["tests"]:
        for entry in test["input_series"]:
            (name,) = metrics_in(entry["series"])
            assert labels_in(entry["series"]) <= {*labels_of(name), *SCRAPED_LABELS}, entry["series"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_uses_labels_that_its_metrics_have(rule: Object) -> None:
    known = {label for name in metrics_in(rule["expr"]) for label in labels_of(name)} | set(SCRAPED_LABELS)
    shown = re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
    assert sorted((labels_in(rule["expr"]) | set(shown)) - known) == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_which_command_tells_more(rule: Object) -> None:
    assert rule["alert"].startswith("EhpcSync")
    assert re.fullmatch(r"[1-9]\d*[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert "ehpc-image-sync " in rule["annotations"]["description"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_is_tested_firing_and_silent(rule: Object) -> None:
    assert {fires for name, fires in cases_of_alerts() if name == rule["alert"]} == {True, False}
