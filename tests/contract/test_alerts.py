"""Alert rules and dashboard, held against promtool, a server's real series, and the manual."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "tokenlink.json"
MANUAL = ROOT / "docs" / "operations.md"
SERIES = re.compile(r"\b(?:tokenlink|process)[a-z_]*(?::[a-z0-9_:]+)?")
NOT_OF_A_SERVER = {"up", "ALERTS"}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def rules() -> list[dict[str, Any]]:
    found = []
    for path in (PROMETHEUS / "rules").glob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            found += group["rules"]
    return found


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def shown() -> list[str]:
    """What the dashboard asks Prometheus."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@needs_promtool
def test_promtool_finds_nothing_wrong() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    tested = promtool("test", "rules", *(PROMETHEUS / "tests").glob("*.yaml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_tested_both_ways() -> None:
    names = {
        test["name"]
        for path in (PROMETHEUS / "tests").glob("*.yaml")
        for test in yaml.safe_load(path.read_text())["tests"]
    }
    assert names == {f"{alert} {what}" for alert in alerts() for what in ("fires", "is quiet")}


@needs_promtool
def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    asked = [
        {"record": f"asked:{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, expr in enumerate(shown())
    ]
    assert len(asked) > 20
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": asked}]}))
    checked = promtool("check", "rules", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_rules_and_dashboard_ask_for_series_that_a_server_shows(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        text = (await client.get("/metrics")).text
    there = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    there |= {rule["record"] for rule in rules() if "record" in rule}
    asked = {
        name
        for expr in [*(rule["expr"] for rule in rules()), *shown()]
        for name in SERIES.findall(re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expr))
    }
    assert len(asked) > 20
    assert asked <= there


def test_dashboard_panels_have_places_and_names_of_their_own() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    source = yaml.safe_load((DASHBOARD.parents[1] / "provisioning/datasources/prometheus.yaml").read_text())
    uids = {target["datasource"]["uid"] for panel in panels for target in panel.get("targets", ())}
    assert uids == {source["datasources"][0]["uid"]}


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_alert_leads_to_its_section_in_the_manual() -> None:
    for name, alert in alerts().items():
        document, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert ROOT / document == MANUAL
        assert anchor == name.lower()
        assert anchor in anchors(MANUAL)
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"]


def test_the_manual_explains_no_alert_that_is_not_there() -> None:
    section = MANUAL.read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (.+)$", section, re.MULTILINE)) == set(alerts())
