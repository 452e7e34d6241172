"""A virtual environment per peer, of pinned packages.

    python -m tests.benchmarks.peers.environments [NAME]...          what ``make peers`` does

    build/peers/NAME/venv      made from requirements/NAME.txt, which lists everything that the peer needs:
                               nothing is resolved, nothing else is installed

torch and transformers, and what they need, are not installed again: a ``.pth`` file puts the packages of the
environment that this runs in behind the peer's own. What both have is taken from the peer's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = Path(__file__).parent / "requirements"
FOLDER = ROOT / "build" / "peers"
_INSTALLED = "requirements.txt"
_SHARED = "zz-shared.pth"
"""Sorted last: what a package's own ``.pth`` files add comes before it."""


class MissingEnvironmentError(Exception):
    """There is no environment for this peer, or not the one that is asked for."""


def names() -> tuple[str, ...]:
    """Peers that have requirements of their own."""
    return tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))


def requirements_of(name: str) -> str:
    """What is to be installed, as pip reads it."""
    return (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")


def version_of(name: str, distribution: str) -> str:
    """The pinned version of one of the packages.

    Raises:
        KeyError: it is not pinned.
    """
    found = re.search(rf"^{re.escape(distribution)}==(\S+)$", requirements_of(name), re.MULTILINE)
    if found is None:
        raise KeyError(f"requirements/{name}.txt does not pin {distribution}")
    return found[1]


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment.

    Raises:
        MissingEnvironmentError: says how to get it.
    """
    folder = FOLDER / name / "venv"
    installed = folder / _INSTALLED
    if not installed.is_file():
        raise MissingEnvironmentError(f"no environment at {folder.relative_to(ROOT)}; `make peers` makes it")
    if installed.read_text(encoding="utf-8") != requirements_of(name):
        raise MissingEnvironmentError(f"{folder.relative_to(ROOT)} is outdated; `make peers` renews it")
    return folder / "bin" / "python"


def build(name: str) -> Path:
    """Make a peer's environment, unless it is there.

    Raises:
        subprocess.CalledProcessError: something cannot be installed here; pip has said what.
    """
    try:
        return python_of(name)
    except MissingEnvironmentError:
        folder = FOLDER / name / "venv"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--requirement", str(REQUIREMENTS / f"{name}.txt")], check=True)
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    Path(own, _SHARED).write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (folder / _INSTALLED).write_text(requirements_of(name), encoding="utf-8")
    return python


def main(arguments: list[str] | None = None) -> None:
    """Entry point: names, or none for all. One that cannot be made does not keep the others from it."""
    chosen = sys.argv[1:] if arguments is None else arguments
    unknown = set(chosen) - set(names())
    if unknown:
        sys.exit(f"peers: no requirements for {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    failed = []
    for name in chosen or names():
        print(f"{name} ...", flush=True)
        try:
            build(name)
        except subprocess.CalledProcessError:
            failed.append(name)
    if failed:
        sys.exit(f"peers: could not be installed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
