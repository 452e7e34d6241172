"""An environment for each client, of its own packages: nothing of it is among the project's.

    build/clients/NAME     a virtual environment, or a folder of Node's packages

A client that cannot be installed here, because its registry or Node itself is not to be had, is skipped by
name.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements"
PROGRAMS = Path(__file__).parent / "programs"
FOLDER = ROOT / "build" / "clients"
_WITHIN_S = 600
_INSTALLED = "installed"


class UnavailableError(Exception):
    """A client cannot be installed here; says why."""


@dataclass(frozen=True)
class Client:
    """A client of OpenAI's API.

    Attributes:
        name: as it is shown.
        program: file that drives it, among :data:`PROGRAMS`.
        requirements: file of its packages; empty: the project's own do.
        variant: what the program is told; empty: nothing.
    """

    name: str
    program: str
    requirements: str
    variant: str = ""

    def version(self) -> str:
        """Of its first package; empty where it has none."""
        if not self.requirements:
            return ""
        text = (REQUIREMENTS / self.requirements).read_text(encoding="utf-8")
        if self.requirements.endswith(".txt"):
            return text.split()[0].partition("==")[2]
        return text.partition('"ai": "')[2].partition('"')[0]

    def command(self, folder: Path = FOLDER) -> list[str]:
        """What runs its program, once its packages are there.

        Raises:
            UnavailableError: they cannot be had.
        """
        program = PROGRAMS / self.program
        if not self.requirements:
            return [sys.executable, str(program)]
        wanted = (REQUIREMENTS / self.requirements).read_text(encoding="utf-8")
        home = folder / Path(self.requirements).stem
        marker = home / _INSTALLED
        if not marker.is_file() or marker.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(home, ignore_errors=True)
            (_install_node if program.suffix == ".mjs" else _install_python)(home, self.requirements)
            marker.write_text(wanted, encoding="utf-8")
        if program.suffix == ".mjs":
            # Node looks for packages beside the program.
            beside = home / program.name
            shutil.copyfile(program, beside)
            return [_node(), str(beside), self.variant]
        return [str(home / "bin" / "python"), str(program), *([self.variant] if self.variant else [])]


CLIENTS = (
    Client("openai-python", "openai_python.py", "openai.txt"),
    Client("LiteLLM", "lite_llm.py", "litellm.txt"),
    Client("LangChain", "lang_chain.py", "langchain.txt"),
    Client("AI SDK, openai-compatible", "ai_sdk.mjs", "ai-sdk.json", "compatible"),
    Client("AI SDK, openai", "ai_sdk.mjs", "ai-sdk.json", "openai"),
    Client("openai-python, responses", "openai_responses.py", "openai.txt"),
    Client("LangChain, responses", "lang_chain.py", "langchain.txt", "responses"),
    Client("AI SDK, responses", "ai_sdk.mjs", "ai-sdk.json", "responses"),
    Client("Open WebUI's requests", "open_webui.py", ""),
)


def _install_python(home: Path, requirements: str) -> None:
    venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, "--requirement", str(REQUIREMENTS / requirements)], home)


def _install_node(home: Path, requirements: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("there is no npm")
    home.mkdir(parents=True)
    shutil.copyfile(REQUIREMENTS / requirements, home / "package.json")
    _run([npm, "install", "--silent", "--no-audit", "--no-fund"], home)


def _run(command: list[str], home: Path) -> None:
    try:
        subprocess.run(command, cwd=home, check=True, capture_output=True, text=True, timeout=_WITHIN_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise UnavailableError(f"its packages cannot be installed: {said[-1] if said else error}") from error


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise UnavailableError("there is no node")
    return node
