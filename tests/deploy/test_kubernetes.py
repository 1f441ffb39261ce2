"""The manifests: whole objects that fit each other, the image and the program's configuration."""

from pathlib import Path

import pytest

from sync.config import KEYS, load_settings
from sync.errors import ExitCode
from tests.deploy.sources import DEPLOY, PROGRAM, Object, documents_of

FOLDER = DEPLOY / "kubernetes"
OBJECTS = [entry for path in sorted(FOLDER.glob("*.yaml")) for entry in documents_of(path)]


def only(kind: str) -> Object:
    """Return the only object of a kind."""
    (found,) = [entry for entry in OBJECTS if entry["kind"] == kind]
    return found


def pod_template(kind: str) -> Object:
    """Return what a Deployment or CronJob makes its pods from."""
    spec: Object = only(kind)["spec"]
    template: Object = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]
    return template


def container(kind: str) -> Object:
    """Return the only container of the pods."""
    (found,) = pod_template(kind)["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("entry", OBJECTS, ids=lambda entry: entry["kind"])
def test_an_object_says_what_it_is(entry: Object) -> None:
    assert entry["apiVersion"]
    assert entry["metadata"]["name"] == PROGRAM
    assert entry["metadata"]["labels"]["app.kubernetes.io/name"] == PROGRAM
    assert entry["kind"] not in {"Deployment", "CronJob"} or entry["spec"]


def test_there_is_one_of_each_kind() -> None:
    kinds = sorted(entry["kind"] for entry in OBJECTS)
    assert kinds == ["ConfigMap", "CronJob", "Deployment", "Secret", "ServiceAccount"]


def test_the_selectors_match_the_pods() -> None:
    spec = only("Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    assert not spec["selector"]["matchLabels"].items() <= pod_template("CronJob")["metadata"]["labels"].items()


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_a_pod_keeps_to_the_restricted_profile(kind: str) -> None:
    pod, limits = pod_template(kind)["spec"], container(kind)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert limits == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}}
    assert kinds == {"configMap", "emptyDir"}


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_a_pod_refers_only_to_what_the_manifests_make(kind: str) -> None:
    pod, made = pod_template(kind)["spec"], container(kind)
    assert pod["serviceAccountName"] == only("ServiceAccount")["metadata"]["name"]
    assert [entry["secretRef"]["name"] for entry in made["envFrom"]] == [only("Secret")["metadata"]["name"]]
    mounts = {mount["name"]: mount["mountPath"] for mount in made["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert volumes["configuration"]["configMap"]["name"] == only("ConfigMap")["metadata"]["name"]
    variables = {entry["name"]: entry["value"] for entry in made["env"]}
    folder, _, file = variables["EHPC_SYNC_CONFIG"].rpartition("/")
    assert folder == mounts["configuration"]
    assert file in only("ConfigMap")["data"]


def test_the_program_takes_the_configuration_of_the_examples(tmp_path: Path) -> None:
    ((name, text),) = only("ConfigMap")["data"].items()
    (tmp_path / name).write_text(text)
    variables = {entry["name"]: entry["value"] for entry in container("Deployment")["env"]}
    variables |= only("Secret")["stringData"] | {"EHPC_SYNC_CONFIG": str(tmp_path / name)}
    settings = load_settings(None, {}, variables)
    port = settings.listen_address[1] if settings.listen_address else None
    assert settings.regions
    assert port == container("Deployment")["ports"][0]["containerPort"]
    assert str(port) == pod_template("Deployment")["metadata"]["annotations"]["prometheus.io/port"]


def test_trouble_that_no_other_pod_would_cure_restarts_none() -> None:
    probes = {name: probe for name, probe in container("Deployment").items() if name.endswith("Probe")}
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {"livenessProbe": "/livez"}


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_a_pod_is_given_the_time_that_the_program_needs_to_end(kind: str) -> None:
    assert pod_template(kind)["spec"]["terminationGracePeriodSeconds"] == 15


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_a_pod_asks_for_what_the_program_needs(kind: str) -> None:
    resources = container(kind)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"] == {"memory": "512Mi"}


def test_a_job_runs_at_the_ticks_of_the_configured_schedule(tmp_path: Path) -> None:
    spec = only("CronJob")["spec"]
    ((name, text),) = only("ConfigMap")["data"].items()
    (tmp_path / name).write_text(text)
    settings = load_settings(str(tmp_path / name), {}, {})
    assert spec["schedule"] == settings.schedule == KEYS["schedule"].default
    assert (spec["timeZone"], settings.timezone) == ("Etc/UTC", "UTC")


def test_only_a_taken_lease_is_tried_again() -> None:
    spec = only("CronJob")["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    taken = job["podFailurePolicy"]["rules"][0]
    assert (taken["action"], taken["onExitCodes"]["values"]) == ("Ignore", [ExitCode.LEASE_TAKEN])
    assert taken["onExitCodes"]["containerName"] == container("CronJob")["name"]


def test_a_job_ends_and_leaves_a_short_history() -> None:
    spec = only("CronJob")["spec"]
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
    assert 0 < spec["successfulJobsHistoryLimit"] <= spec["failedJobsHistoryLimit"] <= 10


def test_the_secrets_are_examples() -> None:
    values = only("Secret")["stringData"]
    assert [name for name, value in values.items() if "replace-me" not in value] == []
