"""The shape of the repository: who imports whom, and what every build relies on."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import tree

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "device_agent", "edge_server")
VAGUE_NAMES = {"utils", "util", "common", "helpers", "misc", "shared"}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.!]+)$")


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    matches = [PIN.match(line) for line in lines if line and not line.startswith("#")]
    assert all(matches), "constraints.txt holds something other than exact pins"
    return {normalised(match[1]): match[2] for match in matches if match}


def imports(path: Path) -> set[str]:
    """Top-level names of everything that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_import_rules_are_kept() -> None:
    executable = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    done = subprocess.run([executable, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept" in done.stdout


def test_the_tree_and_the_rules_are_current() -> None:
    """Run ``make tree`` where this fails."""
    written = tree.PAGE.read_text(encoding="utf-8")
    assert tree.BEGIN in written
    assert tree.END in written
    assert tree.page(written) == written


def test_every_package_says_what_it_holds() -> None:
    packages = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")}
    assert ROOT / "edge_server" / "engine" in packages
    assert not [package for package in packages if not tree.summary(package)]


DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "docs").rglob("*.md"),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_places_that_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:edge_server|device_agent|protos|deploy|tests|docs)/[\w./-]+)`", text)
    linked = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    missing = [place for place in named if not (ROOT / place).exists()]
    missing += [place for place in linked if not (document.parent / place).exists()]
    assert not missing


def test_the_load_test_uses_public_client_apis_only() -> None:
    found = {name for path in (ROOT / "deploy" / "loadtest").glob("*.py") for name in imports(path)}
    assert {"protos", "device_agent"} <= found
    assert not found & {"edge_server", "torch", "tests"}


def test_demo_and_its_server_need_no_development_tools() -> None:
    allowed = {*sys.stdlib_module_names, "rich"}
    for path in (ROOT / "deploy" / "with_server.py", ROOT / "deploy" / "demo" / "demo.py"):
        assert imports(path) <= allowed


def test_modules_are_named_for_what_they_do() -> None:
    found = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py") if path.stem in VAGUE_NAMES]
    assert not found


MAY_SLEEP = {
    "tests/contract/serve_weightless.py": "a server that is watched while it answers takes its time",
    "tests/unit/deploy/test_generator.py": "a server that takes time is what the generator is to measure",
}


def test_tests_wait_for_what_they_need_and_do_not_sleep() -> None:
    """A sleep is too short on a busy machine and too long on any other: see ``tests/waiting.py``."""
    sleeping = set()
    for path in [*(ROOT / "tests" / "unit").rglob("*.py"), *(ROOT / "tests" / "contract").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and called(node) == "sleep":
                sleeping.add(str(path.relative_to(ROOT)))
    assert sleeping == set(MAY_SLEEP)


def called(node: ast.Call) -> str:
    """The last part of a called function's name."""
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def test_everything_that_is_asked_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {normalised(re.split(r"[\[><=~!; ]", requirement, maxsplit=1)[0]) for requirement in asked}
    assert names - {"tokenlink"} <= set(pins())


@pytest.mark.parametrize("dockerfile", ["Dockerfile.server", "Dockerfile.device"])
def test_images_are_pinned_and_do_not_run_as_root(dockerfile: str) -> None:
    lines = (ROOT / "deploy" / dockerfile).read_text().splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert installs
    # Everything by its hash; the project itself from the wheel that the stage before has built.
    assert all("--require-hashes" in line or "--no-deps /wheels" in line for line in installs)
    last_stage = max(number for number, line in enumerate(lines) if line.startswith("FROM"))
    assert any(line.startswith("USER ") and "root" not in line for line in lines[last_stage:])
    assert any(line.startswith("HEALTHCHECK") for line in lines[last_stage:])


def test_the_device_image_is_built_from_the_devices_half() -> None:
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy" / "Dockerfile.device").read_text(), re.M
    )
    assert {name for line in copied for name in line.split()} & {"edge_server", "deploy"} == set()
