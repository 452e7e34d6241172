"""The loop every stage runs in: AdamW, warm-up and cosine decay, checkpoints, a log, a progress bar.

Wall-clock and processor time are logged; the latter, ``cpu_s``, without what looks on between steps.

Stages draw their data from the step number alone (``numpy.random.default_rng([seed, step])``), so a run
that was cut goes on from its last checkpoint exactly as if nothing had happened.

    runs/NAME/STAGE/  checkpoint.safetensors  (trainable weights and optimiser moments, with step and time)
                      log.jsonl               (a line every few steps)
                      done.json               (written last; a finished stage is skipped)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns."""

    steps: int
    """Optimiser steps (the paper's *rounds*)."""
    learning_rate: float
    """Peak learning rate of AdamW."""
    warmup_steps: int = 100
    """Linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay, on matrices only."""
    clip_norm: float = 1.0
    """Largest norm of the gradient over all parameters."""
    final_fraction: float = 0.05
    """Learning rate at the end, as a fraction of the peak (cosine decay)."""
    log_every: int = 20
    """Steps between two lines of the log."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""

    def rate(self, step: int) -> float:
        """Learning rate at a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.learning_rate * (self.final_fraction + (1 - self.final_fraction) * cosine)


class Stage(Protocol):
    """What is learned, from which loss."""

    def trainable(self) -> Mapping[str, nn.Parameter]:
        """Exactly the parameters this stage moves, by name."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one step, a scalar, and figures for the log."""


Examine = Callable[[int], Mapping[str, float] | None]
"""Looks at a stage after so many steps; figures for ``examined.jsonl``, or None where nothing is due."""

#: Where the loop writes loss and figures, a line every few steps.
LOG = "log.jsonl"
#: Where :data:`Examine` writes; a run that was cut may say the same twice.
EXAMINED = "examined.jsonl"
#: Written last, with what the stage was told and how long it took.
DONE = "done.json"


def run_stage(
    name: str,
    stage: Stage,
    schedule: Schedule,
    directory: Path,
    config: object = None,
    examine: Examine = lambda done: None,
) -> None:
    """Run a stage to its end, from its checkpoint where there is one. A finished stage returns at once."""
    directory.mkdir(parents=True, exist_ok=True)
    done_file = directory / DONE
    parameters = dict(stage.trainable())
    optimizer = torch.optim.AdamW(
        parameter_groups(parameters, schedule.weight_decay), lr=schedule.learning_rate, betas=(0.9, 0.98)
    )
    checkpoint = directory / "checkpoint.safetensors"
    first, spent = (
        _restore(checkpoint, parameters, optimizer) if checkpoint.exists() else (0, _Spent(0.0, 0.0))
    )
    if done_file.exists():
        return
    clock = _Clock(spent)
    with _progress() as bar, (directory / LOG).open("a") as log:
        task = bar.add_task(name, total=schedule.steps, completed=first, note="")
        for step in range(first, schedule.steps):
            _examined(examine, step, directory, clock)
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            loss, figures = stage.loss(step)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{name}: loss is {loss.item()} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters.values(), schedule.clip_norm)
            optimizer.step()
            if step % schedule.log_every == 0 or step == schedule.steps - 1:
                figures = {"loss": loss.item(), **figures}
                line = {"step": step, **clock.told(), **figures}
                log.write(json.dumps(line) + "\n")
                log.flush()
                bar.update(task, note=" ".join(f"{k} {v:.3f}" for k, v in figures.items()))
            bar.update(task, completed=step + 1)
            if (step + 1) % schedule.checkpoint_every == 0 or step == schedule.steps - 1:
                _save(checkpoint, parameters, optimizer, step + 1, clock.spent())
        _examined(examine, schedule.steps, directory, clock)
    summary = {"stage": name, "schedule": asdict(schedule), **clock.told()}
    if config is not None:
        summary["config"] = config
    done_file.write_text(json.dumps(summary, indent=2) + "\n")


def cpu_s_of(directory: Path) -> float:
    """Processor time of a finished stage, without what looked on between its steps [s].

    Args:
        directory: the stage's folder.

    Raises:
        OSError: the stage has not ended.
        KeyError: it was not trained but taken from a model.
    """
    return float(json.loads((directory / DONE).read_text())["cpu_s"])


@dataclass(frozen=True)
class _Spent:
    """Time that a stage took, evaluations between its steps left out of the second."""

    elapsed_s: float
    """By the wall clock [s]."""
    cpu_s: float
    """Of this process's processor time [s]."""


class _Clock:
    """Counts on where an earlier run of the stage was cut, as if the clocks had stood still since."""

    def __init__(self, spent: _Spent) -> None:
        self._started_s = time.monotonic() - spent.elapsed_s
        self._cpu_started_s = time.process_time() - spent.cpu_s

    def spent(self) -> _Spent:
        return _Spent(time.monotonic() - self._started_s, time.process_time() - self._cpu_started_s)

    def told(self) -> dict[str, float]:
        """For the log, rounded."""
        return {name: round(seconds, 1) for name, seconds in asdict(self.spent()).items()}

    def leave_out(self, cpu_s: float) -> None:
        """What the stage itself did not spend."""
        self._cpu_started_s += cpu_s


def _examined(examine: Examine, done: int, directory: Path, clock: _Clock) -> None:
    begun_s, cpu_s = time.process_time(), clock.spent().cpu_s
    figures = examine(done)
    if figures is not None:
        with (directory / EXAMINED).open("a") as file:
            file.write(json.dumps({"steps": done, "cpu_s": round(cpu_s, 1), **figures}) + "\n")
    clock.leave_out(time.process_time() - begun_s)


def parameter_groups(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """What decays, and what does not: matrices, and vectors."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _save(
    path: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    spent: _Spent,
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"weight.{name}"] = parameter.detach().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = value.detach().contiguous()
    partial = path.with_suffix(".partial")
    save_file(
        tensors,
        partial,
        metadata={"step": str(step), "spent_s": f"{spent.elapsed_s:.1f}", "cpu_s": f"{spent.cpu_s:.1f}"},
    )
    partial.replace(path)


def _restore(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[int, _Spent]:
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        for name, parameter in parameters.items():
            parameter.data.copy_(file.get_tensor(f"weight.{name}"))
            optimizer.state[parameter] = {
                # The step count stays where AdamW keeps it.
                key: file.get_tensor(f"{key}.{name}").to("cpu" if key == "step" else parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in names
            }
        metadata = file.metadata()
        # Checkpoints of before processor time was counted have none.
        return int(metadata["step"]), _Spent(
            float(metadata["spent_s"]), float(metadata.get("cpu_s", metadata["spent_s"]))
        )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
