"""What a device pays for an answer: time, bytes, channel uses and memory, at every token length.

Real questions to a real server. Token lengths take turns, so that what disturbs the machine disturbs all of
them alike; reported are medians with the quartiles around them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from device_agent.agent import Agent
from device_agent.bundle.bundle import Bundle
from device_agent.errors import ConfigurationError
from device_agent.media.clip import Clip
from device_agent.outcome import Cost


@dataclass(frozen=True)
class Spread:
    """Middle of several measurements, and the quartiles around it."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """From at least two values."""
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, lower, upper)


@dataclass(frozen=True)
class Row:
    """What questions at one token length cost.

    Attributes:
        token_length: tokens per modality.
        channel_uses: complex symbols of a question.
        bytes_on_wire: of a question's frame in the network behind the radio.
        airtime_s: what the symbols take on the air [s].
        encode_s: what the transmitters took [s].
        round_trip_s: from sending the question to having the answer, airtime not [s].
    """

    token_length: int
    channel_uses: int
    bytes_on_wire: int
    airtime_s: float
    encode_s: Spread
    round_trip_s: Spread


@dataclass(frozen=True)
class Report:
    """A whole measurement.

    Attributes:
        bundle: name and hash of the bundle.
        modalities: what the clip has.
        repeats: questions at each token length.
        threads: of each transmitter.
        graph_bytes: size of each graph on disk.
        peak_resident_bytes: the most memory that this process has held, from its start on.
        rows: one per token length.
    """

    bundle: str
    modalities: tuple[str, ...]
    repeats: int
    threads: int
    graph_bytes: dict[str, int]
    peak_resident_bytes: int
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


async def measure(
    agent: Agent,
    bundle: Bundle,
    question: str,
    clip: Clip,
    *,
    repeats: int,
    threads: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Ask the same question again and again.

    Args:
        agent: connected.
        bundle: the agent's; all its token lengths that the server grants are measured.
        question: asked each time.
        clip: decoded once; decoding is not part of the figures.
        repeats: questions at each token length, at least 2.
        threads: what the agent was given, for the report.
        advance: called after each question with how many are done, and how many there are.

    Raises:
        ConfigurationError: fewer than two repeats.
        DeviceAgentError: any of the tree, as :meth:`Agent.ask`.
    """
    if repeats < 2:
        raise ConfigurationError(f"repeats is {repeats}; at least 2 are needed for a spread")
    granted = (await agent.grant_in_time()).max_token_length
    lengths = [length for length in bundle.manifest.token_lengths if length <= granted]
    await agent.ask(question, clip, token_length=lengths[0])  # opens the graphs
    costs: dict[int, list[Cost]] = {length: [] for length in lengths}
    turns = lengths * repeats
    for done, length in enumerate(turns, 1):
        costs[length].append((await agent.ask(question, clip, token_length=length)).cost)
        advance(done, len(turns))
    return Report(
        bundle=f"{bundle.manifest.name} {bundle.hash}",
        modalities=clip.modalities,
        repeats=repeats,
        threads=threads,
        graph_bytes={graph: bundle.manifest.files[graph].bytes for graph in bundle.manifest.graphs},
        peak_resident_bytes=peak_resident_bytes(),
        rows=tuple(_row(length, costs[length]) for length in lengths),
    )


def peak_resident_bytes() -> int:
    """The most memory that this process has had resident."""
    import resource  # not everywhere: only a bench needs it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _row(token_length: int, costs: Sequence[Cost]) -> Row:
    last = costs[-1]
    return Row(
        token_length,
        last.channel_uses,
        last.bytes_on_wire,
        last.airtime_s,
        Spread.of([cost.encode_s for cost in costs]),
        Spread.of([cost.round_trip_s for cost in costs]),
    )
