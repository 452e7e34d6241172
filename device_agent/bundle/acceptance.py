"""What a bundle has to meet before it takes the place of the one that is installed."""

from __future__ import annotations

from dataclasses import dataclass, field

from device_agent.bundle.proving import ProofLimits
from device_agent.bundle.signature import BundleKey

MAX_BUNDLE_BYTES = 2**30


@dataclass(frozen=True)
class Acceptance:
    """The terms on which bundles are taken.

    Attributes:
        max_bytes: of the archive, and of all its files together.
        keys: of which one has to have signed it; none: it need not be signed.
        proof: what running it once may take.
    """

    max_bytes: int = MAX_BUNDLE_BYTES
    keys: tuple[BundleKey, ...] = ()
    proof: ProofLimits = field(default_factory=ProofLimits)
