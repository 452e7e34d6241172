"""Heads of a bundle, without opening their graphs."""

from __future__ import annotations

from device_agent.bundle.bundle import Bundle
from device_agent.cotrain.weights import read_weights
from edge_server.cotrain.members import Heads


def heads_of(bundle: Bundle) -> Heads:
    """Each head that can be learned, as a round begins with it.

    Raises:
        BundleError: a file of weights cannot be read.
    """
    return {
        slot: read_weights(bundle.folder / head.weights)[0] for slot, head in bundle.manifest.heads.items()
    }
