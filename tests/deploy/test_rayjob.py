"""deploy/rayjob.yaml: valid Kubernetes, valid KubeRay where its schema is at hand, and what it promises about safety.

KUBERAY_CRD names the file of KubeRay's schema, for example `kubectl get crd rayjobs.ray.io -o yaml > crd.yaml`; it is
not ours to ship.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from tamis.pipeline.recipe import parse_recipe
from tamis.stages.base import stage_class

ROOT = Path(__file__).resolve().parents[2]


def documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all((ROOT / "deploy" / name).read_text()))


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return next(d for d in documents("rayjob.yaml") if d["kind"] == "RayJob")


def templates(job: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that the job asks for, by name."""
    yield "submitter", job["spec"]["submitterPodTemplate"]
    cluster = job["spec"]["rayClusterSpec"]
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def pinned(package: str) -> str:
    versions = (ROOT / "constraints.txt").read_text()
    found = re.search(rf"^{package}==(\S+)$", versions, re.MULTILINE)
    assert found
    return found[1]


def memory(text: str) -> int:
    units = {"Mi": 1 << 20, "Gi": 1 << 30}
    return int(text[:-2]) * units[text[-2:]]


def test_every_object_and_pod_template_is_valid_kubernetes(job: dict[str, Any]) -> None:
    version = kubernetes_validate.latest_version()
    for document in documents("rayjob.yaml"):
        if document["kind"] != "RayJob":
            kubernetes_validate.validate(document, version, strict=True)
    for name, template in templates(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template.get("metadata", {})}}
        kubernetes_validate.validate({**pod, "spec": template["spec"]}, version, strict=True)


def test_it_says_nothing_that_kuberay_would_not_read(job: dict[str, Any]) -> None:
    """The keys of KubeRay 1.5 that are used, for machines without its schema."""
    spec = (
        "entrypoint submissionMode backoffLimit activeDeadlineSeconds shutdownAfterJobFinishes ttlSecondsAfterFinished"
    )
    assert job["spec"].keys() == {*spec.split(), "submitterConfig", "submitterPodTemplate", "rayClusterSpec"}
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() == {
        *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions"),
        *("headGroupSpec", "workerGroupSpecs"),
    }
    assert cluster["headGroupSpec"].keys() == {"rayStartParams", "template"}
    for group in cluster["workerGroupSpecs"]:
        replicas = {"replicas", "minReplicas", "maxReplicas"}
        assert group.keys() == {"groupName", "rayStartParams", "template", *replicas}
        assert group["minReplicas"] <= group["replicas"] <= max(group["maxReplicas"], group["minReplicas"])


def unknown(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    """Keys that the schema does not know, which a server would refuse or silently drop."""
    if isinstance(value, dict) and "properties" in schema:
        for key, item in value.items():
            if key in schema["properties"]:
                yield from unknown(item, schema["properties"][key], f"{place}.{key}")
            elif not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{place}.{key}"
    elif isinstance(value, list):
        for item in value:
            yield from unknown(item, schema.get("items", {}), f"{place}[]")


def test_it_is_what_kuberay_takes(job: dict[str, Any]) -> None:
    path = os.environ.get("KUBERAY_CRD")
    if not path:
        pytest.skip("KUBERAY_CRD names no schema of KubeRay")
    definition = YAML(typ="safe").load(Path(path).read_text())
    version = next(v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    jsonschema.validate(job, schema)
    spec = {"apiVersion": {}, "kind": {}, "metadata": {}, "spec": schema["properties"]["spec"]}
    assert list(unknown(job, {"properties": spec}, "RayJob")) == []


def test_versions_are_those_of_the_image(job: dict[str, Any]) -> None:
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")
    images = {c["image"] for _, t in templates(job) for c in t["spec"]["containers"]}
    project = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project
    assert images == {f"tamis:{project[1]}"}


def test_no_pod_is_root_or_can_write_outside_its_scratch(job: dict[str, Any]) -> None:
    for name, template in templates(job):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], name
            assert not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "/tmp" in [m["mountPath"] for m in container["volumeMounts"]], f"{name}: Ray writes below /tmp"
        volumes = {v["name"] for v in spec["volumes"]}
        assert {m["name"] for c in spec["containers"] for m in c["volumeMounts"]} <= volumes
        assert not any("hostPath" in v for v in spec["volumes"])
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["rayClusterSpec"]["autoscalerOptions"]["securityContext"]["readOnlyRootFilesystem"]


def test_credentials_come_from_a_secret_alone(job: dict[str, Any]) -> None:
    for name, template in templates(job):
        for container in template["spec"]["containers"]:
            given = {e["name"] for e in container.get("env", [])}
            assert not given & {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
            if name != "submitter":
                assert container["envFrom"] == [{"secretRef": {"name": "tamis-s3"}}]
                assert {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"} <= given


def test_memory_covers_the_object_store_and_a_gigabyte_for_every_worker_process(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        spec = group["template"]["spec"]
        resources = spec["containers"][0]["resources"]
        assert resources["limits"]["memory"] == resources["requests"]["memory"]
        shm = next(v["emptyDir"] for v in spec["volumes"] if v["name"] == "shm")
        assert shm["medium"] == "Memory"
        assert int(group["rayStartParams"]["object-store-memory"]) < memory(shm["sizeLimit"])
        processes = 0 if group is cluster["headGroupSpec"] else int(resources["requests"]["cpu"])
        assert memory(resources["limits"]["memory"]) >= memory(shm["sizeLimit"]) + (processes << 30) + (2 << 30)


def test_the_run_asks_for_the_cpus_that_the_workers_can_come_to(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    cpus = sum(
        group["maxReplicas"] * int(group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
        for group in cluster["workerGroupSpecs"]
    )
    asked = re.search(r"--workers (\d+)", job["spec"]["entrypoint"])
    assert asked
    assert int(asked[1]) == cpus
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["workerGroupSpecs"][0]["minReplicas"] >= 1


def guide() -> list[dict[str, Any]]:
    """The pieces of YAML in the guide's section on GPUs."""
    section = (ROOT / "docs" / "deploy.md").read_text().split("## GPU scoring")[1].split("\n## ")[0]
    return [YAML(typ="safe", pure=True).load(piece) for piece in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)]


def test_a_node_for_gpus_tells_ray_of_those_that_kubernetes_gives_it(job: dict[str, Any]) -> None:
    group = next(g for g in job["spec"]["rayClusterSpec"]["workerGroupSpecs"] if g["groupName"] == "gpu")
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"]
    assert int(group["rayStartParams"]["num-gpus"]) == resources["limits"]["nvidia.com/gpu"]
    assert "nvidia.com/gpu" in {t["key"] for t in group["template"]["spec"]["tolerations"]}
    assert group["maxReplicas"] == 0, "the recipe in the file needs no GPU"


def test_what_the_guide_says_of_gpus_fits_the_manifest_and_the_stage(job: dict[str, Any]) -> None:
    recipe, numbers = guide()
    group = next(g for g in job["spec"]["rayClusterSpec"]["workerGroupSpecs"] if g["groupName"] == "gpu")
    assert numbers.keys() <= group.keys()
    (settings,) = recipe["stages"]
    stage = stage_class(settings.pop("use"))
    held = stage(stage.Config.model_validate(settings), name="lm").resources
    assert held.pool == (numbers["minReplicas"], numbers["maxReplicas"])
    assert numbers["replicas"] == numbers["minReplicas"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert 0 < held.gpus <= limits["nvidia.com/gpu"]
    assert held.cpus <= int(limits["cpu"])


def test_the_recipe_is_mounted_where_the_command_looks_for_it_and_is_one(job: dict[str, Any]) -> None:
    recipes = next(d for d in documents("rayjob.yaml") if d["kind"] == "ConfigMap")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    volume = next(v for v in head["volumes"] if v.get("configMap", {}).get("name") == recipes["metadata"]["name"])
    mount = next(m for m in head["containers"][0]["volumeMounts"] if m["name"] == volume["name"])
    assert job["spec"]["entrypoint"].split()[:3] == ["tamis", "run", f"{mount['mountPath']}/recipe.yaml"]
    recipe = parse_recipe(YAML(typ="safe", pure=True).load(recipes["data"]["recipe.yaml"]))
    assert recipe.output.startswith("s3://")


def test_what_prometheus_scrapes_is_the_port_that_ray_exports_on(job: dict[str, Any]) -> None:
    monitor = documents("podmonitor.yaml")[0]
    labels = monitor["spec"]["selector"]["matchLabels"]
    for name, template in templates(job):
        if name == "submitter":
            continue
        assert labels.items() <= template["metadata"]["labels"].items()
        ports = {p["name"]: p["containerPort"] for p in template["spec"]["containers"][0]["ports"]}
        assert ports["metrics"] == 8080  # KubeRay starts every node with --metrics-export-port=8080
        assert template["metadata"]["annotations"]["prometheus.io/port"] == "8080"
        assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports
