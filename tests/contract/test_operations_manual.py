"""What docs/operations.md tells an operator to rely on: exit codes, settings, services, links."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from device_agent import errors
from device_agent.cli.conventions import INTERRUPTED
from device_agent.config import SETTINGS as DEVICE_SETTINGS
from edge_server.frontdoor.metrics import REFUSALS
from edge_server.server.config import SETTINGS

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs" / "operations.md"
TEXT = MANUAL.read_text()


def section(heading: str) -> str:
    found = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, heading
    return found


def tree(kind: type[errors.DeviceAgentError]) -> set[type[errors.DeviceAgentError]]:
    return {kind}.union(*(tree(child) for child in kind.__subclasses__()))


def test_every_exit_code_of_the_agent_is_told() -> None:
    told = section("Exit codes").partition("`edge-server`")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", told, re.MULTILINE)}
    assert codes == {0, INTERRUPTED} | {kind.exit_code for kind in tree(errors.DeviceAgentError)}


def test_settings_are_settings() -> None:
    for prefix, known in (("SERVER", SETTINGS.find), ("DEVICE", DEVICE_SETTINGS.find)):
        for name in re.findall(rf"TOKENLINK_{prefix}_([A-Z_]+)", TEXT):
            assert known(name.lower().replace("__", ".")) is not None, name


def test_services_and_volumes_are_those_of_the_compose_file() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    told = re.findall(r"^\| (`[^|]+`) \|", section("Start, stop, look"), re.MULTILINE)
    assert {name for row in told for name in re.findall(r"`(\w+)`", row)} == set(compose["volumes"])
    options = {"--tail": 1, "-d": 0, "--build": 0}
    for command in re.findall(r"docker compose (?:stop|start|kill|restart|logs)((?: [\w-]+)+)", TEXT):
        words = command.split()
        named = [word for word in words if not word.startswith("-") and not word.isdecimal()]
        assert set(named) <= set(compose["services"]) | set(options), command


def test_every_bound_that_refuses_questions_is_told() -> None:
    told = TEXT.partition("### QuestionsRefused")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) == set(REFUSALS["overload"])


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert not path or (MANUAL.parent / path).exists(), link
        assert not anchor or anchor in anchors, link
