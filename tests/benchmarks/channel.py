"""The device's channel beside theory: what was measured, what is expected, and how far apart they are.

    python -m tests.benchmarks.channel --out docs/results/channel.json

Gray QPSK through AWGN and Rayleigh fading, Gaussian symbols through AWGN; deviations are counted in standard
errors of the measurement. Exits non-zero where one exceeds four.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from device_agent.channel import Channel, ChannelConfig
from tests.closed_forms import (
    EBN0_TO_SNR_DB,
    awgn_bit_error_rate,
    bit_errors_per_symbol,
    gaussian,
    gaussian_error,
    mean_and_standard_error,
    qpsk,
    rayleigh_bit_error_rate,
)

EBN0S_DB = (0.0, 4.0, 8.0)
SNRS_DB = (0.0, 10.0, 20.0)
CHANNEL_DIM = 1000
BLOCK_DIM = 32
MOST_STANDARD_ERRORS = 4.0


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        figure: what was measured, over which channel.
        at_db: Eb/N0 of a bit error rate, Es/N0 of a mean square error [dB].
        expected: in closed form.
        measured: mean over independent symbols, or codewords where one gain serves all of a codeword.
        standard_error: of that mean.
    """

    figure: str
    at_db: float
    expected: float
    measured: float
    standard_error: float

    @property
    def standard_errors_off(self) -> float:
        """Distance from what is expected, in standard errors."""
        return abs(self.measured - self.expected) / self.standard_error


def measure(symbols: int, seed: int) -> Iterator[Row]:
    """Measure every figure on about so many symbols."""
    rng = np.random.default_rng(seed)
    token_length = max(1, 2 * symbols // CHANNEL_DIM)
    for ebn0_db in EBN0S_DB:
        config = ChannelConfig(model="awgn", snr_db=ebn0_db + EBN0_TO_SNR_DB)
        x_TC = qpsk(rng, token_length, CHANNEL_DIM)
        errors = bit_errors_per_symbol(x_TC, Channel(config, rng).transmit(x_TC).x_TC)
        yield _row("QPSK bit error rate, AWGN", ebn0_db, awgn_bit_error_rate(ebn0_db), errors)
    for ebn0_db in EBN0S_DB:
        config = ChannelConfig(model="rayleigh", fading="fast", snr_db=ebn0_db + EBN0_TO_SNR_DB)
        x_TC = qpsk(rng, token_length, CHANNEL_DIM)
        errors = bit_errors_per_symbol(x_TC, Channel(config, rng).transmit(x_TC).x_TC)
        yield _row("QPSK bit error rate, Rayleigh fast", ebn0_db, rayleigh_bit_error_rate(ebn0_db), errors)
    for ebn0_db in EBN0S_DB:
        channel = Channel(ChannelConfig(model="rayleigh", snr_db=ebn0_db + EBN0_TO_SNR_DB), rng)
        x_TC = qpsk(rng, 1, BLOCK_DIM)
        blocks = [
            bit_errors_per_symbol(x_TC, channel.transmit(x_TC).x_TC).mean()
            for _ in range(max(2, 2 * symbols // BLOCK_DIM))
        ]
        yield _row("QPSK bit error rate, Rayleigh block", ebn0_db, rayleigh_bit_error_rate(ebn0_db), blocks)
    for snr_db in SNRS_DB:
        x_TC = gaussian(rng, token_length, CHANNEL_DIM)
        received_TC = Channel(ChannelConfig(snr_db=snr_db), rng).transmit(x_TC).x_TC
        errors = (received_TC.astype(np.float64) - x_TC) ** 2 / 0.5
        yield _row("Gaussian error over variance, AWGN", snr_db, gaussian_error(snr_db), errors)


def _row(figure: str, at_db: float, expected: float, values: object) -> Row:
    measured, standard_error = mean_and_standard_error(values)  # type: ignore[arg-type]
    return Row(figure, at_db, expected, measured, standard_error)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Measure the device's channel against closed forms.")
    parser.add_argument("--symbols", type=int, default=1_000_000, help="complex symbols per figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args(arguments)
    table = Table(title=f"The channel against closed forms, {options.symbols:,} symbols each")
    for heading in ("figure", "dB", "expected", "measured", "standard error", "off by"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    rows = list(measure(options.symbols, options.seed))
    for row in rows:
        values = (row.expected, row.measured, row.standard_error)
        off = f"{row.standard_errors_off:.1f} s.e."
        table.add_row(row.figure, f"{row.at_db:g}", *(f"{value:.3e}" for value in values), off)
    Console().print(table)
    if options.out is not None:
        report = {
            "symbols": options.symbols,
            "seed": options.seed,
            "rows": [asdict(row) | {"standard_errors_off": row.standard_errors_off} for row in rows],
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    if max(row.standard_errors_off for row in rows) > MOST_STANDARD_ERRORS:
        sys.exit("the channel is not what its convention says")


if __name__ == "__main__":
    main()
