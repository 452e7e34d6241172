"""What heads of a bundle look like, without opening their graphs."""

from __future__ import annotations

from device_agent.bundle.bundle import Bundle
from device_agent.cotrain.weights import read_weights


def shapes_of(bundle: Bundle) -> dict[str, dict[str, tuple[int, ...]]]:
    """Of each weight of each head that can be learned.

    Raises:
        BundleError: a file of weights cannot be read.
    """
    return {
        slot: {name: each.shape for name, each in read_weights(bundle.folder / head.weights)[0].items()}
        for slot, head in bundle.manifest.heads.items()
    }
