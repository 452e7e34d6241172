"""What a report of the device's cost says of the machine, and how it is shown."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from rich.console import Console
from rich.table import Table


def machine() -> dict[str, Any]:
    """What the times were taken on: the processor, and those of its instructions that int8 gains from."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {key.strip(): value.strip() for key, value in facts.items()}
    flags = known.get("flags", "").split()
    return {
        "processor": known.get("model name", platform.processor() or platform.machine()),
        "instructions": [name for name in ("avx2", "avx_vnni", "avx512f", "avx512_vnni") if name in flags],
        "threads": 1,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as tables."""
    table = Table(title=f"{report['model']}: encoders, one thread, {report['repeats']} clips")
    for heading in ("encoders", "size MB", "memory MB", "process MB", "encode ms", "over fp32"):
        table.add_column(heading, justify="left" if heading == "encoders" else "right")
    for row in report["encoders"]:
        time_s, ratio, memory = row["encode_s"], row["encode_over_fp32"], row["memory"]
        table.add_row(
            row["name"],
            f"{sum(row['size_bytes'].values()) / 1e6:.2f}",
            f"{memory['encoders_bytes'] / 1e6:.1f}",
            f"{memory['encoding_bytes'] / 1e6:.1f}",
            f"{time_s['median'] * 1e3:.2f} ({time_s['lower'] * 1e3:.2f} to {time_s['upper'] * 1e3:.2f})",
            f"{ratio['median']:.2f} ({ratio['lower']:.2f} to {ratio['upper']:.2f})",
        )
    console.print(table)
    snrs_db = list(dict.fromkeys(row["snr_db"] for row in report["accuracy"]))
    table = Table(title=f"accuracy, {report['clips']} clips, {report['token_length']} tokens, AWGN")
    for heading in ("graphs", "payload", *(f"{snr_db:g} dB" for snr_db in snrs_db), "frame bytes"):
        table.add_column(heading, justify="left" if heading in ("graphs", "payload") else "right")
    frame_bytes = {row["dtype"]: row["frame_bytes"] for row in report["payloads"]}
    at = {(row["graphs"], row["payload"], row["snr_db"]): row["accuracy"] for row in report["accuracy"]}
    for graphs, dtype in dict.fromkeys(key[:2] for key in at):
        accuracies = (f"{at[graphs, dtype, snr_db]:.2%}" for snr_db in snrs_db)
        table.add_row(graphs, dtype, *accuracies, f"{frame_bytes[dtype]:.0f}")
    console.print(table)
    console.print(report["int8_against_fp32"])
