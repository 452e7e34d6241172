"""Modulation and coding schemes: how many bits a codeword carries."""

from __future__ import annotations

from dataclasses import dataclass

MIN_BITS = 12
"""Fewest information bits that Sionna's 5G LDPC encoder takes."""
MAX_BITS = 8448
"""Most information bits of one code block, base graph 1 (3GPP TS 38.212, 5.2.2)."""


@dataclass(frozen=True)
class Mcs:
    """A modulation and a code rate."""

    bits_per_symbol: int
    """Of the QAM: 2, 4, 6 or 8."""
    rate_1024: int
    """Information bits in 1024 coded bits."""

    @property
    def name(self) -> str:
        """Short and unique."""
        return f"qam{2**self.bits_per_symbol}-{self.rate_1024}"

    @property
    def efficiency(self) -> float:
        """Information bits per channel use."""
        return self.bits_per_symbol * self.rate_1024 / 1024

    def bits(self, channel_uses: int) -> int:
        """Information bits of a codeword of so many channel uses; 0 where the code does not exist."""
        bits = self.bits_per_symbol * channel_uses * self.rate_1024 // 1024
        return bits if MIN_BITS <= bits <= MAX_BITS else 0


MCS_TABLE: tuple[Mcs, ...] = (
    Mcs(2, 78),
    Mcs(2, 120),
    Mcs(2, 193),
    Mcs(2, 308),
    Mcs(2, 449),
    Mcs(2, 602),
    Mcs(4, 378),
    Mcs(4, 490),
    Mcs(4, 616),
    Mcs(6, 466),
    Mcs(6, 567),
    Mcs(6, 666),
    Mcs(6, 772),
    Mcs(6, 873),
    Mcs(8, 797),
    Mcs(8, 948),
)
"""In order of efficiency, 0.15 to 7.4 bits per channel use. The first is of 3GPP TS 38.214, table 5.1.3.1-3,
the others of table 5.1.3.1-2."""
