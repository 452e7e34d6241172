"""What the images install: pinned by hash, at the tested versions, and all that the code asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "requirements"
TORCH = ("torch-cpu-amd64.txt", "torch-cuda.txt")
IMAGES = {
    "device.txt": ("device", "tracing"),
    "server.txt": ("server", "tracing", "ui", "open", "scenes", "cluster"),
}


def pinned(name: str) -> dict[str, Version]:
    """Packages of a file with their versions; each has hashes."""
    found = {}
    text = re.sub(r"\\\n\s*", " ", (FOLDER / name).read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=sha256:")
            assert hashes, line
            assert all(re.fullmatch(r"[0-9a-f]{64}", digest.strip()) for digest in hashes), line
            parsed = Requirement(requirement.strip())
            (specifier,) = parsed.specifier
            assert specifier.operator == "=="
            found[canonicalize_name(parsed.name)] = Version(specifier.version)
    assert found
    return found


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def wanted(extra: str) -> set[str]:
    """What an extra asks for, and what it is part of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = set()
    for text in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        requirement = Requirement(text)
        if requirement.name == project["name"]:
            names |= set().union(*(wanted(part) for part in requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return names


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.txt")))
def test_everything_is_pinned_by_hash_at_the_tested_version(name: str) -> None:
    here, tested = pinned(name), constraints()
    if name == "tools.txt":  # not installed beside the code
        return
    assert {package: version.public for package, version in here.items() if package in tested} == {
        package: str(tested[package]) for package in here if package in tested
    }, "run `make requirements`"


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_installs_all_that_its_code_asks_for(name: str) -> None:
    asked = set().union(*(wanted(extra) for extra in IMAGES[name]))
    assert {"numpy", "grpcio"} <= asked
    missing = asked - set(pinned(name)) - {"torch"}
    assert not missing, "run `make requirements`"


def test_torch_comes_in_a_layer_of_its_own_and_once() -> None:
    server = pinned("server.txt")
    assert not {"torch", "triton"} & set(server)
    assert not [name for name in server if name.startswith(("nvidia-", "cuda-"))]
    for name in TORCH:
        assert "torch" in pinned(name)
    assert "torch" not in pinned("device.txt")
    cuda = pinned("torch-cuda.txt")
    shared = set(cuda) & set(server)
    assert {name: cuda[name] for name in shared} == {name: server[name] for name in shared}
    # With the server's own, everything that torch needs.
    assert [name for name in cuda if name.startswith("nvidia-")]
