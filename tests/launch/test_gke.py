"""launch/gke.sh: the manifest that it makes of launch/gke.yaml, and kubectl's stand-in."""

import pytest
import yaml

_COMMAND = ("train", "--config.evaluation.arms=('base','passage')", 'a "b" \\c $(HOME) & {{chips}}')
_JOB = (
    "--name=seal",
    "--image=registry/seal_jax:1",
    "--accelerator=tpu-v5-lite-podslice",
    "--topology=2x4",
    "--workdir=gs://bucket/my runs/one",
)


def _documents(text):
    service, job = yaml.safe_load_all(text)
    return service, job


def test_applies_a_manifest_with_everything_in_its_place(launcher):
    done = launcher("gke.sh", *_JOB, "--namespace=ml", "--service-account=seal", "--", *_COMMAND)
    assert done.returncode == 0, done.stderr
    assert launcher.calls("kubectl") == [["apply", "--filename=-", "--namespace=ml"]]
    assert "kubectl logs --follow job/seal --namespace=ml" in done.stderr
    service, job = _documents((launcher.folder / "manifest.yaml").read_text(encoding="utf-8"))
    assert service["spec"] == {"clusterIP": "None", "selector": {"job-name": "seal"}}
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    # Kubernetes reads $$( as $(, and $(HOME) as a variable.
    escaped = 'a "b" \\c $$(HOME) & {{chips}}'
    assert container["args"] == [*_COMMAND[:2], escaped, "--workdir=gs://bucket/my runs/one"]
    assert container["command"] == ["python", "-m", "seal_jax"]
    assert container["image"] == "registry/seal_jax:1"
    assert container["env"] == [
        {"name": "JAX_COMPILATION_CACHE_DIR", "value": "gs://bucket/my runs/compilation_cache"},
        {"name": "SEAL_JAX_MULTI_HOST", "value": "0"},
    ]
    assert container["resources"] == {"limits": {"google.com/tpu": 8}}
    assert pod["serviceAccountName"] == "seal"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x4",
    }
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (1, 1)


def test_a_failure_ends_the_job_and_a_preemption_does_not_count(launcher):
    done = launcher("gke.sh", *_JOB, "--attempts=3", "--dry-run", "--", *_COMMAND)
    _, job = _documents(done.stdout)
    spec = job["spec"]
    assert spec["backoffLimit"] == 3
    disruption, failure = spec["podFailurePolicy"]["rules"]
    assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    assert failure["action"] == "FailJob"
    container = spec["template"]["spec"]["containers"][0]["name"]
    expected = {"containerName": container, "operator": "NotIn", "values": [75, 137, 143]}
    assert failure["onExitCodes"] == expected
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # the policy is refused otherwise
    assert not launcher.records()


def test_several_hosts_share_the_chips(launcher):
    flags = (*_JOB, "--topology=4x4", "--hosts=4", "--dry-run", "--", "train")
    done = launcher("gke.sh", *flags)
    service, job = _documents(done.stdout)
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert container["resources"] == {"limits": {"google.com/tpu": 4}}
    assert {"name": "SEAL_JAX_MULTI_HOST", "value": "1"} in container["env"]


def test_delete(launcher):
    done = launcher("gke.sh", "--name=seal", "--delete", "--namespace=ml")
    assert done.returncode == 0, done.stderr
    expected = ["delete", "job/seal", "service/seal", "--ignore-not-found", "--namespace=ml"]
    assert launcher.calls("kubectl") == [expected]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--name=Seal",), "expected small letters"),
        (("--topology=",), "--topology=... is missing"),
        (("--topology=2xy",), "a side=y: expected a positive"),
        (("--workdir=/data",), "gone with it"),
        (("--image=",), "--image=... is missing"),
        (("--accelerator=a\tb",), "line breaks and tabs"),
        (("--spot",), "unknown argument --spot"),
    ],
)
def test_refusals_say_what_to_change(launcher, flags, message):
    done = launcher("gke.sh", *_JOB, *flags, "--", "train")
    assert done.returncode == 1
    assert message in done.stderr
    assert not launcher.records()
