"""A client of a running Status Ledger: registers messages, reads where they stand, follows what happens to them.

It needs nothing of the service's own code, and reads what later versions add without minding it.
"""

from ledger_client.client import Client
from ledger_client.errors import LedgerError, NotFound, Refused, Stopped, Unreachable
from ledger_client.shapes import (
    Change,
    Claim,
    Conversation,
    Failure,
    FailureTold,
    HistoryItem,
    Message,
    Registered,
    Retry,
    Step,
    Update,
)
from ledger_client.streams import Stream

__all__ = [
    "Change",
    "Claim",
    "Client",
    "Conversation",
    "Failure",
    "FailureTold",
    "HistoryItem",
    "LedgerError",
    "Message",
    "NotFound",
    "Refused",
    "Registered",
    "Retry",
    "Step",
    "Stopped",
    "Stream",
    "Unreachable",
    "Update",
]
