"""What a device sent, beside what it was granted: grants are counted against, not only given.

Power cannot be seen from here: what fades and what was sent too loudly look the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edge_server.cell.grant import Grant
from edge_server.cell.session import Session

Excess: TypeAlias = Literal["token_length", "channel_uses", "bandwidth", "unreported"]
"""More tokens than granted, more channel uses, more bandwidth; or fewer uses told than the tokens take."""

#: Rounding of what devices tell.
_TOLERANCE = 1.01


@dataclass(frozen=True)
class SentBlock:
    """One codeword of media, as its device tells it.

    Attributes:
        slot: what it fills.
        token_length: its tokens.
        symbols: complex symbols that these take, pilots aside.
        channel_uses: told by the device.
        airtime_s: likewise [s].
    """

    slot: str
    token_length: int
    symbols: int
    channel_uses: int
    airtime_s: float


def count_sent(
    session: Session,
    blocks: Sequence[SentBlock],
    *,
    deadline_s: float = 0.0,
    encode_s: float = 0.0,
    spent_s: float = 0.0,
) -> tuple[Excess, ...]:
    """Note what a question's media took of the radio and of time; what of it exceeds the grant.

    It is held against what its device was told while it was made ready, not against what was granted
    meanwhile: of these grants the one that fits best. Without an allocation nothing is exceeded: token
    lengths are suggestions then, and bandwidths everybody's own.

    Args:
        session: that it came in.
        blocks: its media; of a question without any nothing is noted.
        deadline_s: within which its answer was wanted, from when it was asked [s]; 0: not told.
        encode_s: what making its tokens took [s]; 0: not told.
        spent_s: since it was asked, until it was sent [s]; 0: not told.
    """
    if not blocks:
        return ()
    longest = max(block.token_length for block in blocks)
    session.mix = tuple(sorted(block.slot for block in blocks))
    session.symbols_per_token = sum(max(block.channel_uses, block.symbols) for block in blocks) / longest
    session.deadline_s, session.encode_s = deadline_s, encode_s
    made_ready_s = max(spent_s, encode_s + sum(block.airtime_s for block in blocks))
    grants = session.grants_since(session.seen_at - made_ready_s)
    if not all(grant.channel_uses for grant in grants):
        return ()
    found = [_exceeded(grant, blocks) for grant in grants]
    return min(found, key=len)


def _exceeded(grant: Grant, blocks: Sequence[SentBlock]) -> tuple[Excess, ...]:
    uses = sum(block.channel_uses for block in blocks)
    airtime_s = sum(block.airtime_s for block in blocks)
    facts: dict[Excess, bool] = {
        "token_length": max(block.token_length for block in blocks) > grant.token_length,
        "channel_uses": uses > grant.channel_uses,
        "bandwidth": not uses <= airtime_s * grant.bandwidth_hz * _TOLERANCE,
        "unreported": any(block.channel_uses < block.symbols for block in blocks),
    }
    return tuple(what for what, exceeded in facts.items() if exceeded)
