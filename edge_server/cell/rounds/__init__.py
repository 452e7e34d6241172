"""Questions in rounds: what to ask a device for next, and how what it sends is put together. Arithmetic."""

from edge_server.cell.rounds.combining import ReceivedBlock, Segment
from edge_server.cell.rounds.ladder import MOST_REPEATS, Arrived, Ladder

__all__ = ["MOST_REPEATS", "Arrived", "Ladder", "ReceivedBlock", "Segment"]
