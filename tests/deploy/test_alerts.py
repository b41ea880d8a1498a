"""The alert rules: sound, tested, explained, and in step with the settings."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.config import ServerSettings

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


@pytest.fixture
def rules(root: Path) -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    groups = yaml.safe_load((root / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments],
        cwd=root / "deploy/prometheus",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_promtool
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yaml")], ids=" ".join
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...], root: Path) -> None:
    result = promtool(root, *arguments)

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(
    root: Path, rules: dict[str, dict[str, Any]]
) -> None:
    cases = yaml.safe_load((root / "deploy/prometheus/alerts_test.yaml").read_text())["tests"]
    outcomes = {
        (check["alertname"], bool(check["exp_alerts"])) for case in cases for check in case["alert_rule_test"]
    }

    assert outcomes == {(name, fires) for name in rules for fires in (True, False)}


def test_every_alert_has_a_severity_and_a_section_that_says_what_to_do(
    root: Path, rules: dict[str, dict[str, Any]]
) -> None:
    page = (root / "docs/operations.md").read_text()
    sections = set(re.findall(r"^#+ (Tidegate\w+)$", page, re.MULTILINE))

    assert sections == set(rules)
    for name, rule in rules.items():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_the_alert_on_pending_bytes_knows_the_default_limit(rules: dict[str, dict[str, Any]]) -> None:
    limit = ServerSettings.model_fields["max_pending_bytes"].default

    assert rules["TidegatePendingBytesHigh"]["expr"] == f"tidegate_pending_bytes > 0.8 * {limit}"
