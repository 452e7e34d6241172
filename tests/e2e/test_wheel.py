"""The wheel, made from the source distribution, installed on its own and used from elsewhere than a clone."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.e2e.conftest import ROOT, load_script

#: All that a distribution is made from, of what git knows.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "protos", "device_agent", "edge_server", "deploy/models")
CLIP = ROOT / "deploy" / "demo" / "clips" / "soundstage_test_000016.mp4"
PATIENCE_S = 300
NOBODY = 54_321
#: Exit codes of device_agent/errors.py, beside Ctrl-C's.
DOCUMENTED = range(12)


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=PATIENCE_S, check=False)
    shown = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, shown
    return done.stdout.decode(errors="replace")


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and sees this one's libraries but not this clone."""

    folder: Path
    elsewhere: Path

    def environment(self, changes: Mapping[str, str | None] = MappingProxyType({})) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TOKENLINK"))
        }
        changed = kept | {"PATH": f"{self.folder / 'bin'}{os.pathsep}{kept['PATH']}"} | changes
        return {name: value for name, value in changed.items() if value is not None}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("wheel")
    sources = root / "sources"
    for name in SOURCES:
        source, target = ROOT / name, sources / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    make_sdist = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    run(sys.executable, "-c", make_sdist, cwd=sources)
    (archive,) = root.glob("tokenlink-*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", root, archive, cwd=root)
    (wheel,) = root.glob("tokenlink-*.whl")
    folder = root / "environment"
    venv.create(folder)
    run(*pip, "--python", folder, "install", "--no-deps", "--no-index", wheel, cwd=root)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    return Installed(folder, elsewhere)


@pytest.fixture(scope="module")
def door(installed: Installed) -> Iterator[dict[str, str]]:
    """The shipped model served by the installed server, which is told nothing of where it is."""
    script = load_script(ROOT / "deploy" / "with_server.py")
    server = f"cd {installed.elsewhere} && exec {installed.folder / 'bin' / 'edge-server'} serve"
    with script.server_process(["bash", "-c", server], {"PYTHONPATH": ""}) as facts:
        bundle = installed.elsewhere / "bundle"
        found = {"TOKENLINK_DEVICE_SERVER": facts["grpc"], "TOKENLINK_DEVICE_BUNDLE": str(bundle)}
        run("device-agent", "pull", cwd=installed.elsewhere, env=installed.environment(found))
        yield found


def test_an_installed_server_finds_its_model_and_a_device_its_bundle(
    installed: Installed, door: dict[str, str]
) -> None:
    asked = run(
        "device-agent",
        "ask",
        CLIP,
        "Where is the guitar?",
        "--seed",
        "1",
        "--json",
        cwd=installed.elsewhere,
        env=installed.environment(door),
    )
    assert json.loads(asked)["answer"]
    where = run(
        "python",
        "-c",
        "import device_agent; print(device_agent.__file__)",
        cwd=installed.elsewhere,
        env=installed.environment(),
    )
    assert Path(where.strip()).is_relative_to(installed.folder)


SURROUNDINGS: dict[str, dict[str, str | None]] = {
    "narrow": {"COLUMNS": "80"},
    "c": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1", "LANG": "de_DE.ISO-8859-1"},
    "no home": {"HOME": None, "XDG_STATE_HOME": None},
    "home that is none": {"HOME": "/nonexistent"},
    "proxies": dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY"), "http://127.0.0.1:1"),
    "unknown user": {"HOME": None, "USER": None, "LOGNAME": None},
    "1970": {},
}


OFTEN = ("c", "unknown user", "1970")
"""What has broken something before; the others are among the slow tests, and odd servers meet them all."""


@pytest.mark.parametrize(
    "name",
    [*OFTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in SURROUNDINGS if name not in OFTEN)],
)
def test_the_installed_agent_works_in_odd_surroundings(
    installed: Installed, door: dict[str, str], name: str, tmp_path: Path
) -> None:
    prefix: list[str] = []
    if name == "1970":
        if shutil.which("faketime") is None:
            pytest.skip("faketime is not installed")
        prefix = ["faketime", "1970-01-02 00:00:00"]
    if name == "unknown user":
        if os.getuid() != 0 or shutil.which("setpriv") is None:
            pytest.skip("only root can become somebody else")
        # May read whatever there is: the interpreter can lie in somebody's home.
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    env = installed.environment(door | SURROUNDINGS[name])
    clip = shutil.copy(CLIP, installed.elsewhere / "Gitarre é.mp4")

    def said(*command: str) -> str:
        done = subprocess.run(
            [*prefix, *command],
            cwd=installed.elsewhere,
            env=env,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        shown = (done.stdout + done.stderr).decode(errors="replace")
        assert "Traceback" not in shown
        assert done.returncode in DOCUMENTED
        assert done.returncode == 0 or command[1] == "doctor", shown
        return shown

    said("device-agent", "--help")
    said("edge-server", "--help")
    said("device-agent", "ask", str(clip), "Where is the guitar?", "--seed", "1")
    said("device-agent", "doctor")
    wrong = subprocess.run(
        [*prefix, "device-agent", "ask", "nowhere/é.mp4"],
        cwd=installed.elsewhere,
        env=env,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert wrong.returncode == 2, wrong.stderr
    assert b"Traceback" not in wrong.stderr
