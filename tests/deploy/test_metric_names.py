"""Every metric and label that a dashboard, a rule or a page names exists, so that none survives its renaming."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.telemetry.metrics import Metrics

SUFFIXES = {
    "counter": ["_total"],
    "histogram": ["_bucket", "_sum", "_count"],
    "gauge": [""],
    "info": ["_info"],
}
OF_PROMETHEUS = {"up"}
"""What Prometheus itself says about a target."""
OF_PROMETHEUS_LABELS = {"instance", "job", "le"}

KEYWORDS = {
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
}
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
MATCHERS = re.compile(r"\{([^{}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
DURATION = re.compile(r"\[[^\[\]]*\]|\boffset\s+\w+")
VARIABLE = re.compile(r"\$\w+|\$\{\w+\}")
IDENTIFIER = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*\b(?!\s*\()")
LABEL_VALUES = re.compile(r"label_values\((.*),\s*(\w+)\)$")
IN_TEXT = re.compile(r"`((?:tidegate|grpc_server|process|python)_[a-z_]+)(?:\{[^`]*\})?`")


@dataclass(frozen=True)
class Query:
    """A PromQL expression, taken apart as far as names go."""

    metrics: frozenset[str]
    labels: frozenset[str]


def parse(expression: str) -> Query:
    """Names of metrics and labels in a PromQL expression."""
    bare = DURATION.sub(" ", STRING.sub('""', expression))
    matchers = [m for group in MATCHERS.findall(bare) for m in group.split(",")]
    labels = {re.split(r"[=!]", m)[0].strip() for m in matchers}
    labels |= {name.strip() for group in GROUPING.findall(bare) for name in group.split(",")}
    rest = VARIABLE.sub(" ", GROUPING.sub(" ", MATCHERS.sub(" ", bare)))
    return Query(frozenset(set(IDENTIFIER.findall(rest)) - KEYWORDS), frozenset(labels - {""}))


def dashboard_expressions(root: Path) -> Iterator[str]:
    dashboard = json.loads((root / "deploy/grafana/dashboards/tidegate.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for variable in dashboard["templating"]["list"]:
        match = LABEL_VALUES.match(variable["query"]["query"])
        assert match is not None
        yield f"sum by ({match[2]}) ({match[1]})"


def rule_expressions(root: Path) -> Iterator[str]:
    for group in load(root, "alerts.yaml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def series_of_rule_tests(root: Path) -> Iterator[str]:
    for test in load(root, "alerts_test.yaml")["tests"]:
        yield from (series["series"] for series in test["input_series"])


def load(root: Path, name: str) -> Any:
    return yaml.safe_load((root / "deploy/prometheus" / name).read_text())


def collectors() -> list[Any]:
    return [m for m in vars(Metrics()).values() if hasattr(m, "describe")]


def own_metrics() -> set[str]:
    return {f.name + suffix for m in collectors() for f in m.describe() for suffix in SUFFIXES[f.type]}


def all_metrics() -> set[str]:
    """Names of samples, those of the process among them."""
    families = Metrics().registry.collect()
    process = {s.name for f in families if f.name.startswith(("process_", "python_")) for s in f.samples}
    return own_metrics() | process | OF_PROMETHEUS


def all_labels() -> set[str]:
    """Labels of our metrics; prometheus_client keeps those of its own classes to itself."""
    names = (getattr(m, "label_names", None) or getattr(m, "_labelnames", ()) for m in collectors())
    return {name for labels in names for name in labels} | OF_PROMETHEUS_LABELS


@pytest.mark.parametrize("source", [dashboard_expressions, rule_expressions, series_of_rule_tests])
def test_every_query_names_metrics_and_labels_that_exist(source: Any, root: Path) -> None:
    queries = [parse(expression) for expression in source(root)]

    assert len(queries) >= 10
    assert [q for q in queries if not q.metrics] == []
    assert set().union(*(q.metrics for q in queries)) - all_metrics() == set()
    assert set().union(*(q.labels for q in queries)) - all_labels() == set()


def test_the_dashboard_shows_every_metric_of_ours_that_changes_while_serving(root: Path) -> None:
    shown = set().union(*(parse(e).metrics for e in dashboard_expressions(root)))
    families = {re.sub(r"_(total|bucket|sum|count|info)$", "", name) for name in own_metrics()}
    shown_families = {re.sub(r"_(total|bucket|sum|count|info)$", "", name) for name in shown}

    # RPCs are shown as they end; what the probe found is a label of model_info; build is for support;
    # a failed check of the books is shown as an INTERNAL error.
    assert families - shown_families == {
        "grpc_server_started",
        "tidegate_model_batch_exact",
        "tidegate_build",
        "tidegate_integrity_checks",
    }


def test_the_page_for_operators_names_every_metric_of_ours_and_no_other(root: Path) -> None:
    named = set(IN_TEXT.findall((root / "docs/operations.md").read_text()))
    histograms = {name.removesuffix("_bucket") for name in own_metrics() if name.endswith("_bucket")}
    samples = {n for n in own_metrics() if not n.endswith(("_bucket", "_sum", "_count"))}

    assert (histograms | samples) - named == set()
    assert named - histograms - all_metrics() == set()


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        ("a_total", {"a_total"}, set()),
        ('rate(a_total{code=~"x|y", b!="{z}"}[5m]) > 0.1', {"a_total"}, {"code", "b"}),
        (
            "histogram_quantile(0.99, sum by (le, m) (rate(h_bucket[$__rate_interval])))",
            {"h_bucket"},
            {"le", "m"},
        ),
        ("a / on (i) group_left (j) b unless c offset 10m", {"a", "b", "c"}, {"i", "j"}),
        ("(a or vector(0)) * 1e9", {"a"}, set()),
    ],
)
def test_names_are_found_in_queries_of_every_shape(
    expression: str, metrics: set[str], labels: set[str]
) -> None:
    assert parse(expression) == Query(frozenset(metrics), frozenset(labels))
