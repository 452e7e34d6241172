"""The device agent installs alone: nothing of it needs, or loads, what only a server has."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORT_ALL = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")
        return None

sys.meta_path.insert(0, Blocked())
import device_agent
names = [module.name for module in pkgutil.walk_packages(device_agent.__path__, "device_agent.")]
assert len(names) > 20, names
for name in names:
    importlib.import_module(name)
print(len(names))
"""

BLOCKED = {
    *("torch", "transformers", "peft", "safetensors", "fastapi", "uvicorn", "edge_server"),
    *("PIL", "onnx", "onnxscript", "grpc_tools", "grpc_health", "grpc_reflection", "prometheus_client"),
}

LIGHT = """
import sys
import device_agent.channel
heavy = {"av", "onnxruntime", "tokenizers", "grpc", "pydantic", "typer", "rich"} & set(sys.modules)
assert not heavy, heavy
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_every_module_of_the_agent_imports_without_what_a_server_has() -> None:
    done = run(IMPORT_ALL.replace("{blocked}", repr(BLOCKED)))
    assert done.returncode == 0, done.stderr


def test_the_block_works() -> None:
    done = run(IMPORT_ALL.replace("{blocked}", repr({"numpy"})))
    assert done.returncode != 0
    assert "numpy is blocked" in done.stderr


@pytest.mark.parametrize("module", ["device_agent.channel", "device_agent.media.clip"])
def test_what_trainer_and_server_share_loads_nothing_but_numpy(module: str) -> None:
    done = run(LIGHT.replace("device_agent.channel", module))
    assert done.returncode == 0, done.stderr
