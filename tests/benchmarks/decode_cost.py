"""CPU time of a language token of ``open-small``'s foundation: ours, Hugging Face's, vLLM's, llama.cpp's.

    edge-server weights get open-small
    edge-server engines install vllm                       else its row says that it is not installed
    python -m venv DIR; DIR/bin/pip install llama-cpp-py-sync                    likewise; glibc 2.38
    python -m tests.benchmarks.decode_cost --llama-python DIR/bin/python --out docs/results/decode_cost.json

All say as many language tokens after the same prompts, greedily, ends or no ends, with one thread: SmolLM2's
weights as they were published, in float32 from GGUF's Q4_1. Counted is the time of the processor from the
first token to the last, in whichever process computes. In a round each has its turn, forwards in one and
backwards in the next; ratios are of one round, and their median is told with quartiles. A machine that is
busy makes everybody slower: memory is what these wait for.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import psutil
import torch
import typer
from rich.console import Console
from rich.table import Table

from device_agent.places import downloads, resolved_model
from edge_server.engine.ports import Prompt
from edge_server.evaluation.accuracy import without_lora
from edge_server.evaluation.text_kept import general_questions
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.prompt import embed_pieces, prompt_pieces
from edge_server.model.provenance import current_commit
from edge_server.runtime.computing import Precision
from edge_server.runtime.integers import has_integers
from edge_server.runtime.model_runner import ServedLink
from edge_server.runtime.prompt_layout import PromptLayout
from edge_server.runtime.vllm_child import VllmSettings
from edge_server.runtime.vllm_environment import interpreter
from edge_server.runtime.vllm_runner import VllmRunner
from edge_server.weights.catalogue import FOUNDATION
from tests.benchmarks.device_report import machine
from tests.benchmarks.forward_pass import spread

PROMISE = "open-small, CPU time per token over Hugging Face fp32, batch 1 / 32"
ASKED = {1: 0.5, 32: 0.7}
BATCHES = (1, 8, 32)
THEIRS, EXACT, OURS = "Hugging Face, float32", "ours, float32", "ours, integers"

Said: TypeAlias = list[list[int]]
Turn: TypeAlias = Callable[[Sequence[Prompt], int], tuple[float, Said]]
"""Takes prompts and how many tokens to say; gives the CPU time of a token [s] and what each row said."""


class _Clock:
    """Notes when each token is about to be chosen; the library takes it for one of its logits processors."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.times_s.append(time.process_time())
        return scores


def hugging_face(link: Link) -> Turn:
    """``generate()`` of the library's class, prompts padded on the left."""
    network: Any = link.causal

    def turn(prompts: Sequence[Prompt], tokens: int) -> tuple[float, Said]:
        with torch.inference_mode():
            rows = [
                embed_pieces(link.embedding, prompt_pieces({}, prompt.question_ids, (), link.special))
                for prompt in prompts
            ]
            longest = max(map(len, rows))
            x_BTE = torch.stack([torch.nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
            mask_BT = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
            clock = _Clock()
            said = network.generate(
                inputs_embeds=x_BTE,
                attention_mask=mask_BT,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                do_sample=False,
                suppress_tokens=list(link.special.marks),
                logits_processor=[clock],
                pad_token_id=0,
            )
        return (clock.times_s[-1] - clock.times_s[0]) / (tokens - 1) / len(prompts), said.tolist()

    return turn


def behind_the_port(runner: Any, cpu_s: Callable[[], float]) -> Turn:
    """A runner as the engine drives it."""

    def turn(prompts: Sequence[Prompt], tokens: int) -> tuple[float, Said]:
        state, steps = runner.prefill(prompts)
        said = [[step.token_id] for step in steps]
        began = cpu_s()
        for _ in range(tokens - 1):
            state, steps = runner.decode(state)
            for row, step in zip(said, steps, strict=True):
                row.append(step.token_id)
        took = (cpu_s() - began) / (tokens - 1) / len(prompts)
        runner.keep(state, [])
        return took, said

    return turn


def vllm(link: Link, folder: Path, rows: int, stack: ExitStack) -> Turn:
    """vLLM's engine, eager, in float32; CPU time is that of its process and of ours."""
    network: Any = link.causal
    network.save_pretrained(folder)
    settings = VllmSettings(
        folder, link.embedding.embedding_dim, int(link.config.foundation.max_positions), rows
    )
    runner = VllmRunner(PromptLayout(link), settings, interpreter(), unsaid=link.special.marks)
    stack.callback(runner.close)
    process = psutil.Process(runner.process.pid)

    def cpu_s() -> float:
        times = process.cpu_times()
        return float(times.user + times.system) + time.process_time()

    return behind_the_port(runner, cpu_s)


def llama(python: Path, kind: str, folder: Path, stack: ExitStack) -> Turn:
    """llama.cpp with weights of a type, through its own interface."""
    child = subprocess.Popen(
        [python, Path(__file__).with_name("decode_cost_llama.py"), downloads() / FOUNDATION.name, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(child.kill)

    def turn(prompts: Sequence[Prompt], tokens: int) -> tuple[float, Said]:
        assert child.stdin is not None
        assert child.stdout is not None
        ids = [list(prompt.question_ids) for prompt in prompts]
        child.stdin.write(json.dumps({"type": kind, "prompts": ids, "tokens": tokens}) + "\n")
        child.stdin.flush()
        return float(child.stdout.readline()), []

    return turn


def summary(taken_s: dict[int, dict[str, list[float]]], same: dict[str, float]) -> list[dict[str, Any]]:
    """A row for each batch and who took part: CPU time of a token, and over Hugging Face's of the round."""
    return [
        {
            "batch": batch,
            "who": who,
            "token_s": spread(times_s),
            "over_hugging_face": spread(
                [ours / theirs for ours, theirs in zip(times_s, of_each[THEIRS], strict=True)]
            ),
            "same_tokens": same.get(who),
        }
        for batch, of_each in taken_s.items()
        for who, times_s in of_each.items()
    ]


def promise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of the table of promises."""
    ratios = {row["batch"]: row["over_hugging_face"]["median"] for row in rows if row["who"] == OURS}
    return {
        "what": PROMISE,
        "measured": " / ".join(f"{ratios[batch]:.2f}" for batch in ASKED) + " with decode steps in integers",
        "met": all(ratios[batch] <= most for batch, most in ASKED.items()),
    }


def main(
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")],
    model: Annotated[Path, typer.Option(help="Model folder, or its name.")] = Path("open-small"),
    rounds: Annotated[int, typer.Option(min=2)] = 5,
    tokens: Annotated[int, typer.Option(min=2, help="Language tokens of each answer.")] = 17,
    beside_vllm: Annotated[bool, typer.Option(help="Where vLLM is installed.")] = True,
    llama_python: Annotated[Path | None, typer.Option(help="Interpreter with llama-cpp-py-sync.")] = None,
) -> None:
    """Take turns."""
    torch.set_num_threads(1)
    link = without_lora(Link.load(resolved_model(model)))
    prompts = [
        Prompt((), tuple(tk.encode(link.tokenizer, question.text)))
        for question in general_questions()[: max(BATCHES)]
    ]
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="tokenlink-decode-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        turns: dict[str, Turn] = {THEIRS: hugging_face(link)}
        turns[EXACT] = behind_the_port(ServedLink(link, bundle_hash=""), time.process_time)
        if has_integers(torch.device("cpu")):
            runner = ServedLink(link, bundle_hash="", precision=Precision(integers=True))
            turns[OURS] = behind_the_port(runner, time.process_time)
        else:
            missing[OURS] = "this processor has no instructions for integers"
        if not beside_vllm:
            missing["vLLM"] = "left out"
        elif interpreter().is_file():
            turns["vLLM, float32, eager"] = vllm(link, folder / "vllm", max(BATCHES), stack)
        else:
            missing["vLLM"] = "not installed"
        if llama_python is None:
            missing["llama.cpp"] = "not installed"
        else:
            turns["llama.cpp, Q8_0"] = llama(llama_python, "q8_0", folder, stack)
        said: dict[str, Said] = {}
        taken_s: dict[int, dict[str, list[float]]] = {batch: {who: [] for who in turns} for batch in BATCHES}
        order = list(turns)
        console = Console(stderr=True)
        for batch in BATCHES:
            console.print(f"batch {batch}: {', '.join(order)}")
            # Once before it counts: what is made on the first of a size is not made again.
            said |= {who: turns[who](prompts[:batch], tokens)[1] for who in order}
            for _ in range(rounds):
                order.reverse()
                for who in order:
                    taken_s[batch][who].append(turns[who](prompts[:batch], tokens)[0])
    same = {
        who: float((torch.tensor(found) == torch.tensor(said[EXACT])).float().mean())
        for who, found in said.items()
        # generate() is kept from ending: what it says behind an end is nobody else's.
        if found and who != THEIRS
    }
    rows = summary(taken_s, same)
    table = Table("batch", "who", "CPU ms a token", "over Hugging Face", "quartiles", "tokens as ours")
    for row in rows:
        ratio, share = row["over_hugging_face"], row["same_tokens"]
        table.add_row(
            str(row["batch"]),
            row["who"],
            f"{row['token_s']['median'] * 1e3:.2f}",
            f"{ratio['median']:.2f}",
            f"{ratio['lower']:.2f} to {ratio['upper']:.2f}",
            "" if share is None else f"{share:.1%}",
        )
    Console().print(table)
    result = {
        "command": "python -m tests.benchmarks.decode_cost --llama-python PYTHON",
        "commit": current_commit(),
        "measures": ["edge_server/runtime/decoder.py", "edge_server/runtime/integers.py"],
        "machine": machine(),
        "model": "open-small",
        "counted": "CPU time of decode steps, one thread, interleaved; ratios are of one round",
        "tokens": tokens,
        "rounds": rounds,
        "missing": missing,
        "rows": rows,
        "promises": [promise(rows)] if OURS in turns else [],
    }
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
