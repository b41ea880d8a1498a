"""compose, Kubernetes, Prometheus and Grafana files: they parse, agree with each other and with the settings."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.config import ServerSettings

DEFAULTS = {name: field.default for name, field in ServerSettings.model_fields.items()}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture
def compose(root: Path) -> dict[str, Any]:
    """The services of compose.yaml."""
    services: dict[str, Any] = load(root / "deploy/compose.yaml")["services"]
    return services


@pytest.fixture
def pod(root: Path) -> dict[str, Any]:
    """The pod of the Kubernetes deployment."""
    spec: dict[str, Any] = load(root / "deploy/kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    return spec


def test_every_file_of_the_deployment_parses(root: Path) -> None:
    files = [path for path in (root / "deploy").rglob("*") if path.is_file()]

    assert {path.suffix for path in files} == {".yaml", ".yml", ".json"}
    for path in files:
        assert load(path) if path.suffix != ".json" else json.loads(path.read_text())


def test_a_container_is_killed_only_after_the_drain(compose: dict[str, Any], pod: dict[str, Any]) -> None:
    in_compose = float(compose["tidegate"]["environment"]["TIDEGATE_DRAIN_GRACE_S"])
    in_pod = {item["name"]: float(item["value"]) for item in pod["containers"][0]["env"]}[
        "TIDEGATE_DRAIN_GRACE_S"
    ]

    assert seconds(compose["tidegate"]["stop_grace_period"]) >= in_compose + 5
    assert pod["terminationGracePeriodSeconds"] >= in_pod + 5
    assert in_compose == in_pod == DEFAULTS["drain_grace_s"]


def test_every_service_is_without_privileges_and_reachable_from_this_machine_only(
    compose: dict[str, Any],
) -> None:
    for service in compose.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["ports"]
        assert [port for port in service["ports"] if not port.startswith("127.0.0.1:")] == []


def test_the_named_volumes_are_declared_and_the_mounted_files_exist(
    root: Path, compose: dict[str, Any]
) -> None:
    declared = load(root / "deploy/compose.yaml")["volumes"].keys()
    sources = [volume.split(":")[0] for service in compose.values() for volume in service["volumes"]]

    assert {source for source in sources if not source.startswith(".")} == set(declared)
    assert [s for s in sources if s.startswith(".") and not (root / "deploy" / s).exists()] == []


def test_the_store_volume_is_mounted_where_the_image_expects_it(
    root: Path, compose: dict[str, Any], pod: dict[str, Any]
) -> None:
    volume = re.search(r"^VOLUME (.+)$", (root / "Dockerfile").read_text(), re.MULTILINE)
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}

    assert volume is not None
    assert f"tidegate-store:{volume[1]}" in compose["tidegate"]["volumes"]
    assert mounts == {volume[1], "/tmp"}


def test_the_pod_runs_as_the_user_of_the_image_without_privileges(root: Path, pod: dict[str, Any]) -> None:
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    container = pod["containers"][0]["securityContext"]

    assert f"USER {user}" in (root / "Dockerfile").read_text().splitlines()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_one_replica_is_replaced_and_never_doubled(root: Path) -> None:
    spec = load(root / "deploy/kubernetes/deployment.yaml")["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_ports_are_the_defaults_and_probes_ask_the_right_questions(root: Path, pod: dict[str, Any]) -> None:
    container = pod["containers"][0]
    service = load(root / "deploy/kubernetes/service.yaml")["spec"]["ports"]
    defaults = {"grpc": DEFAULTS["grpc_port"], "http": DEFAULTS["http_port"]}

    assert {port["name"]: port["containerPort"] for port in container["ports"]} == defaults
    assert {port["targetPort"]: port["port"] for port in service} == defaults
    probed = {
        kind: container[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert {kind: (get["path"], get["port"]) for kind, get in probed.items()} == {
        "startupProbe": ("/readyz", "http"),
        "readinessProbe": ("/readyz", "http"),
        "livenessProbe": ("/healthz", "http"),
    }


def test_prometheus_scrapes_the_service_under_its_compose_name(root: Path, compose: dict[str, Any]) -> None:
    config = load(root / "deploy/prometheus/prometheus.yml")
    (job,) = config["scrape_configs"]

    assert job["job_name"] == "tidegate"
    assert job["static_configs"] == [{"targets": [f"tidegate:{DEFAULTS['http_port']}"]}]
    assert "tidegate" in compose
    assert [name for name in config["rule_files"] if not (root / "deploy/prometheus" / name).exists()] == []


def test_grafana_finds_its_data_source_and_its_dashboards(root: Path, compose: dict[str, Any]) -> None:
    provisioning = root / "deploy/grafana/provisioning"
    (source,) = load(provisioning / "datasources/prometheus.yaml")["datasources"]
    (provider,) = load(provisioning / "dashboards/tidegate.yaml")["providers"]
    dashboard = (root / "deploy/grafana/dashboards/tidegate.json").read_text()

    assert set(re.findall(r'"type": "prometheus",\s*"uid": "(\w+)"', dashboard)) == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["grafana"]["volumes"]


def test_the_panels_are_named_explained_and_do_not_overlap(root: Path) -> None:
    panels = json.loads((root / "deploy/grafana/dashboards/tidegate.json").read_text())["panels"]
    positions = [panel["gridPos"] for panel in panels]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [p["title"] for p in panels if p["type"] != "row" and not p["description"].endswith(".")] == []
    assert [p for p in positions if p["x"] + p["w"] > 24] == []
    assert [(a, b) for a, b in combinations(positions, 2) if overlap(a, b)] == []


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    return all(a[x] < b[x] + b[size] and b[x] < a[x] + a[size] for x, size in (("x", "w"), ("y", "h")))


def seconds(period: str) -> float:
    assert period.endswith("s")
    return float(period.removesuffix("s"))
