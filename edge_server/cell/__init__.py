"""The cell: who may send what until when, and which questions were asked already.

    OpenSession ──▶ Session (Grant, IdempotencyCache of its device)
                └──▶ Allocator: everybody's bandwidth, power and token length, anew when one comes or moves
    question ──▶ session known? bundle right? size granted? asked before? in-flight bound? ──▶ engine

Knows no transport and no model library.
"""

from edge_server.cell.allocator import AllocationObserver, Allocator
from edge_server.cell.answer_file import AnswerFile
from edge_server.cell.answers import KeptAnswers
from edge_server.cell.backends import Backend, BackendRegistry
from edge_server.cell.cell import Cell, CellObserver
from edge_server.cell.grant import CellConfig, Grant, suggest_token_length
from edge_server.cell.idempotency import Subscription
from edge_server.cell.limits import LimitConfig, Limits
from edge_server.cell.peer import Access, Peer
from edge_server.cell.rounds import Arrived, Ladder, ReceivedBlock, Segment
from edge_server.cell.sent import Excess, SentBlock, count_sent
from edge_server.cell.session import DeviceStatus, Session
from edge_server.cell.shared_bound import Hold, SharedBound, share_of

__all__ = [
    "Access",
    "AllocationObserver",
    "Allocator",
    "AnswerFile",
    "Arrived",
    "Backend",
    "BackendRegistry",
    "Cell",
    "CellConfig",
    "CellObserver",
    "DeviceStatus",
    "Excess",
    "Grant",
    "Hold",
    "KeptAnswers",
    "Ladder",
    "LimitConfig",
    "Limits",
    "Peer",
    "ReceivedBlock",
    "Segment",
    "SentBlock",
    "Session",
    "SharedBound",
    "Subscription",
    "count_sent",
    "share_of",
    "suggest_token_length",
]
